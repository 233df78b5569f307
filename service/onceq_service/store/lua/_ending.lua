-- How a job ends for good, or goes back to the queue.

local function usd(nano)
  local text = string.format('%.0f.%09.0f', math.floor(nano / 1000000000), nano % 1000000000)
  return (string.gsub(string.gsub(text, '0+$', ''), '%.$', ''))
end

local function seconds(from, to)
  if not from or not to then return 'null' end
  return string.format('%.3f', math.max(0, tonumber(to) - tonumber(from)) / 1000)
end

local function cost_json(job)
  local nano, priced = tonumber(job.spent) or 0, (tonumber(job.unpriced) or 0) == 0
  return string.format('{"nano_usd":%s,"usd":%s,"wasted_nano_usd":%s,"reserved_nano_usd":0,"priced":%s}',
    priced and int(nano) or 'null', priced and '"' .. usd(nano) .. '"' or 'null', int(tonumber(job.wasted) or 0),
    priced and 'true' or 'false')
end

local function phases_json(job)
  local out = {}
  for n, name in ipairs(PHASES) do out[n] = string.format('"%s_s":%.3f', name, job.took[name] / 1000) end
  return '{' .. table.concat(out, ',') .. '}'
end

local function timings_json(job, now, provider_ttft_ms)
  return string.format('{"queue_s":%s,"ttft_s":%s,"provider_ttft_s":%s,"generation_s":%s,"total_s":%s,' ..
    '"phases":%s,"verdict":%s}',
    seconds(job.created_ms, job.claimed_ms), seconds(job.created_ms, job.first_ms),
    provider_ttft_ms and string.format('%.3f', provider_ttft_ms / 1000) or 'null',
    seconds(job.first_ms, now), seconds(job.created_ms, job.mark_ms), phases_json(job),
    job.verdict and '"' .. job.verdict .. '"' or 'null')
end

-- The last of its time, and who is to blame. What a worker had not said of a running job was spent with that worker.
local function close_phases(id, job, now, e)
  if job.state == 'queued' then spend_wait(job, now) else spend(job, 'worker', now) end
  save_phases(id, job)
  job.code = string.match(e.rest, '"error":{"code":"([%l_]+)"')
  job.verdict = blame({state = e.state, code = job.code, took = job.took,
    tokens = e.tokens or math.ceil((tonumber(job.out_bytes) or 0) / 3), reader_ms = tonumber(job.reader_ms) or 0})
end

-- The index keeps ids as long as their jobs: it lapses with the last of them, and a bounded look at the oldest at each
-- end, further where there is something to find, takes out those that are gone.
local function trim_index(tenant, state, ttl)
  local index = k_index(tenant, state)
  if redis.call('EXPIRE', index, ttl, 'NX') == 0 then redis.call('EXPIRE', index, ttl, 'GT') end
  local look, gone = 2, 0
  repeat
    local before = gone
    for _, old in ipairs(redis.call('ZRANGE', index, 0, look - 1)) do
      if redis.call('EXISTS', k_job(old)) == 0 then gone = gone + redis.call('ZREM', index, old) end
    end
    look = look * 16
  until look > 32 or gone - before < 2
end

-- A failed job is a dead letter until somebody replays it or its result lapses.
local function bury(id, tenant, now, result_ttl)
  redis.call('ZREMRANGEBYSCORE', k_dead(tenant), '-inf', int(now - result_ttl * 1000))
  redis.call('ZADD', k_dead(tenant), int(now), id)
  redis.call('EXPIRE', k_dead(tenant), result_ttl)
  redis.call('ZREMRANGEBYSCORE', k_buried(), '-inf', int(now - result_ttl * 1000))
  redis.call('ZADD', k_buried(), int(now), id)
  redis.call('EXPIRE', k_buried(), result_ttl)
end

-- Ends a job for good. `e` has state, rest (JSON members: finish_reason, usage, error), provider_ttft_ms, events_ttl,
-- result_ttl, tokens (that it gave), and set (more fields for the hash). The caller has booked the last try before.
-- Returns the number of the log's last event.
local function finish(id, job, now, e)
  local from = job.state
  close_phases(id, job, now, e)
  if job.holds then let_go(id, job, now) end
  local seq = tonumber(job.seq) + 1
  local data = emit(id, seq, e.state, tonumber(job.call) or 0, ',"status":"' .. e.state .. '","calls":' ..
    int(tonumber(job.calls) or 0) .. e.rest .. ',"cost":' .. cost_json(job) .. ',"timings":' ..
    timings_json(job, now, e.provider_ttft_ms))
  redis.call('HSET', k_job(id), 'state', e.state, 'phase', '', 'seq', int(seq), 'finished_ms', int(now), 'end', data,
    'ended_by', job.fence or '', unpack(e.set or {}))
  redis.call('HDEL', k_job(id), 'fence')
  redis.call('ZREM', k_leases(), id)
  if job.grace_ms then redis.call('ZREM', k_watched(), id) end
  if from == 'queued' then unqueue(id, job) end
  if from == 'running' then
    leave_lane(id, job)
    note_ended(job.lane, now)
  end
  move(id, job, from, e.state)
  trim_index(job.tenant, e.state, e.result_ttl)
  redis.call('EXPIRE', k_job(id), e.result_ttl)
  redis.call('EXPIRE', k_events(id), e.events_ttl)
  if job.fp and job.fp ~= '' and redis.call('GET', k_fp(job.fp)) == id then
    local window = e.state == 'succeeded' and tonumber(job.window_s) or 0
    if window > 0 then redis.call('EXPIRE', k_fp(job.fp), window) else redis.call('DEL', k_fp(job.fp)) end
  end
  if e.state == 'failed' then bury(id, job.tenant, now, e.result_ttl) end
  if job.batches then end_in_batches(id, job, e.state, e.result_ttl) end
  local sums = {e.state, 1, 'd' .. bucket(now - job.created_ms), 1, 'd_ms', now - job.created_ms}
  if job.first_ms then
    local ttft = job.first_ms - job.created_ms
    sums[#sums + 1] = 't' .. bucket(ttft); sums[#sums + 1] = 1; sums[#sums + 1] = 't_ms'; sums[#sums + 1] = ttft
  end
  if e.state == 'succeeded' and job.joins then
    sums[#sums + 1] = 'avoided'; sums[#sums + 1] = tonumber(job.joins) * (answer_cost(job) or 0)
  end
  if (tonumber(job.unpriced) or 0) == 0 then
    sums[#sums + 1] = 'c' .. bucket((tonumber(job.spent) or 0) / 1000); sums[#sums + 1] = 1
  end
  if job.code then sums[#sums + 1] = 'e:' .. job.code; sums[#sums + 1] = 1 end
  if job.verdict then sums[#sums + 1] = 'v:' .. job.verdict; sums[#sums + 1] = 1 end
  for phase, ms in pairs(job.took) do sums[#sums + 1] = 'p:' .. phase; sums[#sums + 1] = ms end
  roll(now, job, sums)
  return seq
end

-- What a cancel came to where no worker can say it.
local function receipt_json(output, spent, estimated)
  return ',"receipt":{"output_tokens":' .. int(output) .. ',"spent_nano_usd":' .. (spent and int(spent) or 'null') ..
    ',"estimated":' .. tostring(estimated) .. ',"may_still_bill":' .. tostring(estimated) .. ',"saved_nano_usd":null}'
end

local function error_json(code, message, retryable)
  return ',"error":{"code":"' .. code .. '","message":"' .. message .. '","retryable":' .. retryable .. '}'
end

-- Back to the queue: at once, or not before `at` (ms). `fallback`: 'next' goes on with the next of its models, 'drop'
-- never comes back to this one.
local function requeue(id, job, now, at, reason, fallback)
  spend(job, 'worker', now)
  save_phases(id, job)
  leave_lane(id, job)
  local models, with = models_of(job), ''
  if (fallback or '') ~= '' and #models > 1 then
    choose(id, job, models, 2, fallback == 'drop')
    with = ',"model":' .. cjson.encode(job.model)
  end
  job.seq = int(tonumber(job.seq) + 1)
  emit(id, tonumber(job.seq), 'retrying', tonumber(job.call) or 0,
    ',"reason":"' .. reason .. '","retry_at":"' .. rfc3339(at) .. '"' .. with)
  redis.call('HSET', k_job(id), 'state', 'queued', 'phase', '', 'seq', job.seq, 'not_before_ms', int(at),
    'wait_reason', reason)
  redis.call('HDEL', k_job(id), 'fence')
  if not job.resuming then redis.call('HDEL', k_job(id), 'resp', 'cursor', 'resuming') end
  redis.call('ZREM', k_leases(), id)
  job.not_before_ms = int(at)
  redis.call('ZADD', k_deadlines(), int(start_by(job)), id)
  move(id, job, 'running', 'queued')
  if at > now then delay(id, at, job.lane)
  else
    route(id, job, now)
    enqueue(id, job)
  end
end

-- Back to the queue while its call goes on at the provider: the next worker takes that call up again, and its one bill.
local function hand_over(id, job, now, at, reason)
  job.resuming = '1'
  redis.call('HSET', k_job(id), 'resuming', '1')
  redis.call('HINCRBY', k_job(id), 'takeovers', 1)
  requeue(id, job, now, at, reason)
end
