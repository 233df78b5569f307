-- What time brings about, a bounded number at each call: delayed jobs, passed deadlines, leases that ran out.

-- A call that goes on at the provider for a job that ends without it is waste.
local function write_off(id, job, now, reason)
  if not job.resuming then return end
  local t = estimate(job)
  t.outcome, t.reason = reason, reason
  book(id, job, now, t)
end

-- Ends a job where no worker can say what its text was. If it has one the log is its only place, and stays as long as
-- the result until `fold` has written it down.
local function finish_here(id, job, now, ttl, state, rest)
  if job.first_ms then redis.call('ZADD', k_unfolded(), int(now), id) end
  finish(id, job, now, {state = state, rest = rest, result_ttl = ttl.result,
    events_ttl = job.first_ms and ttl.result or ttl.events})
end

local function expire(id, job, now, ttl)
  write_off(id, job, now, 'deadline_exceeded')
  local late = error_json('deadline_exceeded', 'job ' .. id .. ' had no answer at its deadline; post it again with a ' ..
    'later deadline_s', 'true')
  if now < tonumber(job.deadline_ms) then
    late = error_json('queue_timeout', 'job ' .. id .. ' was not started within its timeouts.queue_s; post it again ' ..
      'with more time, in a higher band, or when the queue is shorter', 'true')
  end
  finish_here(id, job, now, ttl, 'expired', late)
end

-- What a cancelled job's event says beside its receipt; nothing when somebody asked for it.
local function why_cancelled(id, job)
  if job.cancel ~= 'disconnected' then return '' end
  return error_json('disconnected', 'job ' .. id .. ' was cancelled: nobody followed it for its disconnect_grace_s; ' ..
    'post it again, with on_disconnect continue if nobody has to listen', 'true')
end

-- A delayed job may start from now on.
local function begin_to_wait(id, job, now)
  spend_delay(job, now)
  spend(job, 'queue', now) -- nobody looked in time
  save_phases(id, job)
  redis.call('HDEL', k_job(id), 'not_before_ms', 'wait_reason')
  if job.queue_ms then redis.call('HSET', k_job(id), 'ready_ms', job.not_before_ms or int(now)) end
  route(id, job, now)
  enqueue(id, job)
end

-- Cancels a job at once when it waits; a running one is flagged (`why`: requested | disconnected) and its worker told. One
-- whose call goes on at the provider waits apart for a worker that stops it.
local function cancel_job(id, job, now, ttl, why)
  if job.state == 'queued' and not job.resuming then -- else a worker has to stop the provider first
    job.cancel = why
    finish_here(id, job, now, ttl, 'cancelled', why_cancelled(id, job) .. receipt_json(0, 0, false))
    return 'cancelled'
  end
  redis.call('HSETNX', k_job(id), 'cancel', why)
  job.cancel = job.cancel or why
  if redis.call('ZREM', k_due(), id) == 1 then begin_to_wait(id, job, now)
  elseif job.state == 'queued' then
    spend_wait(job, now)
    save_phases(id, job)
    step_out(id, job)
    enqueue(id, job)
  end
  redis.call('PUBLISH', k_control(), id)
  return 'requested'
end

-- Since when API processes have lived without a gap of two seconds: while none did, no reader could say it was there.
local function listening_since(now)
  local p = read(k_pulse(), {'tend_since', 'tend_last'})
  local since = tonumber(p.tend_since)
  if not since or now - tonumber(p.tend_last) > 2000 or now < tonumber(p.tend_last) then since = now end
  redis.call('HSET', k_pulse(), 'tend_since', int(since), 'tend_last', int(now))
  return since
end

-- Does with one job what is due, whatever state it is in: the whole queue waits behind it. What fails is said in Redis's
-- log, and tried again in a minute; returns whether it was done.
local PUT_OFF = 60000
local function by_itself(place, id, now, step, ...)
  local done, why = pcall(step, ...)
  if done then return true end
  redis.log(redis.LOG_WARNING, 'onceq puts job ' .. id .. ' off: ' .. tostring(type(why) == 'table' and why.err or why))
  redis.call('ZADD', place, int(now + PUT_OFF), id)
  return false
end

-- When somebody was last seen to follow one of a job's batches (ms).
local function batches_followed(job)
  local last = 0
  for batch in string.gmatch(job.batches or '', '%S+') do
    last = math.max(last, redis.call('GET', k_batchseen(job.tenant, batch)) or 0)
  end
  return last
end

-- Jobs with on_disconnect cancel whose readers have been away for their grace. Readers of a batch don't put off each of its
-- jobs: that is found out here, of those whose time has come, so that of these more are looked at than cancelled.
local function cancel_unwatched(now, ttl)
  local since, left = listening_since(now), 16
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', k_watched(), '-inf', now, 'LIMIT', 0, 256)) do
    local job = job_of(id)
    local lives = job.state and not terminal(job.state) and job.grace_ms
    local from = lives and math.max(since, batches_followed(job)) + job.grace_ms
    if lives and now < from then redis.call('ZADD', k_watched(), int(from), id)
    elseif left > 0 then
      left = left - 1
      local done = not lives or by_itself(k_watched(), id, now, cancel_job, id, job, now, ttl, 'disconnected')
      if done then redis.call('ZREM', k_watched(), id) end
    end
  end
end

-- A job whose worker stopped renewing its lease.
local function recover(id, job, now, ttl)
  local sent = job.phase == 'dispatched' or job.phase == 'streaming' or job.resuming ~= nil
  local crashes = redis.call('HINCRBY', k_job(id), 'crashes', 1)
  job.crashes = int(crashes)
  if sent and job.on_crash == 'resume' and job.resp and now < tonumber(job.deadline_ms) and crashes < 6 then
    hand_over(id, job, now, now, 'worker_lost')
    return
  end
  local t = sent and estimate(job)
  if sent then
    t.outcome, t.reason = 'worker_lost', 'worker_lost'
    book(id, job, now, t)
    job.resuming = nil
  end
  local function fail(code, message)
    finish_here(id, job, now, ttl, 'failed', error_json(code, message, 'true'))
  end
  if job.cancel then
    finish_here(id, job, now, ttl, 'cancelled',
      why_cancelled(id, job) .. receipt_json(sent and t.output or 0, sent and t.spent or 0, sent))
  elseif now >= tonumber(job.deadline_ms) then
    expire(id, job, now, ttl)
  elseif crashes >= 6 then
    fail('poison', 'job ' .. id .. ' was lost with its worker 6 times; look at the worker logs before a replay')
  elseif sent and job.on_crash ~= 'retry' then
    fail('worker_lost', 'the worker of job ' .. id .. ' died after the call was sent and on_crash is ' .. job.on_crash)
  elseif sent and tonumber(job.calls) >= tonumber(job.max_calls) then
    fail('worker_lost', 'the worker of job ' .. id .. ' died and max_calls is used up')
  else
    requeue(id, job, now, now, 'worker_lost')
  end
end

-- Whether Redis has lived long enough without a gap that a silent worker is a dead one (the outage rule), and the
-- time at which it will have. A gap is two seconds without any look at this key: every API process looks each second.
local function pulse(now, lease_ms)
  local p = read(k_pulse(), {'since', 'last'})
  local since = tonumber(p.since)
  if not since or now - tonumber(p.last) > 2000 or now < tonumber(p.last) then since = now end
  redis.call('HSET', k_pulse(), 'since', int(since), 'last', int(now))
  return since + math.floor(lease_ms * 2 / 3)
end

-- Returns whether there may be more to reap.
local function reap(now, lease_ms, ttl)
  local from = pulse(now, lease_ms)
  local late = redis.call('ZRANGEBYSCORE', k_leases(), '-inf', now, 'LIMIT', 0, 16)
  for _, id in ipairs(late) do
    local job = job_of(id)
    if job.state ~= 'running' then redis.call('ZREM', k_leases(), id)
    elseif now < from then redis.call('ZADD', k_leases(), int(from), id)
    else by_itself(k_leases(), id, now, recover, id, job, now, ttl) end
  end
  return #late == 16
end

local function expire_due(now, ttl)
  local late = redis.call('ZRANGEBYSCORE', k_deadlines(), '-inf', now, 'LIMIT', 0, 16)
  for _, id in ipairs(late) do
    local job = job_of(id)
    if job.state == 'queued' then by_itself(k_deadlines(), id, now, expire, id, job, now, ttl)
    else redis.call('ZREM', k_deadlines(), id) end
  end
  return #late == 16
end

-- Returns whether there may be more to promote.
local function promote(now)
  local due = redis.call('ZRANGEBYSCORE', k_due(), '-inf', now, 'LIMIT', 0, 32)
  for _, id in ipairs(due) do
    local job = job_of(id)
    local done = job.state ~= 'queued' or by_itself(k_due(), id, now, begin_to_wait, id, job, now)
    if done then redis.call('ZREM', k_due(), id) end
  end
  local blocked = redis.call('ZRANGEBYSCORE', k_blocked(), '-inf', now, 'LIMIT', 0, 32)
  for _, place in ipairs(blocked) do
    redis.call('ZREM', k_blocked(), place)
    local band, lane = string.match(place, '^(.-)|(.*)$')
    if line_up(band, lane) then wake(lane) end
  end
  return #due == 32 or #blocked == 32
end
