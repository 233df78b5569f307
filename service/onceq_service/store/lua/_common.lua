-- What several scripts share: time, events, waiting, rollups, the end of a job. Put before each script, after the
-- key builders of keys.py. Nothing here decides; the scripts do. User payloads never pass through cjson.

local function time_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(n) return string.format('%.0f', n) end

local function shard(id) return int(tonumber(string.sub(id, -2), 16) % 64) end

-- Reads fields of a hash into a table by name.
local function read(key, fields)
  local values = redis.call('HMGET', key, unpack(fields))
  local out = {}
  for n, name in ipairs(fields) do out[name] = values[n] or nil end
  return out
end

local JOB = {'state', 'phase', 'fence', 'seq', 'tenant', 'team', 'model', 'provider', 'lane', 'band', 'simulated',
  'created_ms', 'claimed_ms', 'started_ms', 'first_ms', 'sent_ms', 'deadline_ms', 'calls', 'call', 'tries',
  'max_calls', 'cancel', 'crashes', 'on_crash', 'spent', 'wasted', 'unpriced', 'in_bytes', 'out_bytes', 'price_in',
  'price_out', 'price_version', 'dirty', 'fp', 'window_s', 'ended_by', 'reserved', 'key_id', 'user', 'labels'}

local function job_of(id) return read(k_job(id), JOB) end

local function terminal(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled' or state == 'expired'
end

-- events ----------------------------------------------------------------------------------------------------------

local function publish(id, seq, frame)
  redis.call('PUBLISH', k_channel(shard(id)), id .. ' ' .. int(seq) .. '\n' .. frame)
end

local function log(id, seq, frame)
  redis.call('XADD', k_events(id), int(seq) .. '-0', 'f', frame)
  publish(id, seq, frame)
end

-- Writes one event made here; `rest` is '' or JSON members that begin with a comma. Returns the event's data.
local function emit(id, seq, name, call, rest)
  local data = '{"job":"' .. id .. '","seq":' .. int(seq) .. ',"call":' .. int(call) .. rest .. '}'
  log(id, seq, 'id: ' .. int(seq) .. '\nevent: ' .. name .. '\ndata: ' .. data .. '\n\n')
  return data
end

local function rfc3339(ms) -- days to civil date, after H. Hinnant's chrono algorithms
  local days, rest = math.floor(ms / 86400000), ms % 86400000
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local d, m = doy - math.floor((153 * mp + 2) / 5) + 1, mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', y, m, d, math.floor(rest / 3600000),
    math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
end

-- waiting ---------------------------------------------------------------------------------------------------------

local function wake()
  if redis.call('LLEN', k_wake()) < 64 then redis.call('RPUSH', k_wake(), '1') end
end

-- Puts a job where `next` finds it. A tenant that comes back starts at the lane's present virtual time.
local function enqueue(id, job)
  local fair = k_fair(job.band, job.lane)
  redis.call('ZADD', k_wait(job.band, job.lane, job.tenant), job.created_ms, id)
  if not redis.call('ZSCORE', fair, job.tenant) then
    local first = redis.call('ZRANGE', fair, 0, 0, 'WITHSCORES')
    redis.call('ZADD', fair, first[2] or 0, job.tenant)
  end
  local place = job.band .. '|' .. job.lane
  if not redis.call('ZSCORE', k_blocked(), place) then
    redis.call('ZADD', k_ready(job.band), 'NX', redis.call('HGET', k_turns(), 'n') or 0, job.lane)
  end
  wake()
end

-- Takes a lane out of the turn when nobody waits in it any more.
local function settle_lane(band, lane, tenant)
  if redis.call('EXISTS', k_wait(band, lane, tenant)) == 0 then
    redis.call('ZREM', k_fair(band, lane), tenant)
    if redis.call('EXISTS', k_fair(band, lane)) == 0 then
      redis.call('ZREM', k_ready(band), lane)
      redis.call('ZREM', k_blocked(), band .. '|' .. lane)
    end
  end
end

local function unqueue(id, job)
  redis.call('ZREM', k_wait(job.band, job.lane, job.tenant), id)
  redis.call('ZREM', k_due(), id)
  redis.call('ZREM', k_deadlines(), id)
  settle_lane(job.band, job.lane, job.tenant)
end

local function move(id, job, from, to)
  redis.call('ZREM', k_index(job.tenant, from), id)
  redis.call('ZADD', k_index(job.tenant, to), job.created_ms, id)
  if from == 'queued' then redis.call('HINCRBY', k_totals(), job.band, -1) end
  if to == 'queued' then redis.call('HINCRBY', k_totals(), job.band, 1) end
end

-- money and sums --------------------------------------------------------------------------------------------------

local HOUR_TTL, DAY_TTL = 35 * 86400, 400 * 86400

local function roll_into(span, bucket, ttl, job, sums)
  local dims = cjson.encode({job.team or '', job.model, job.band, job.simulated or '0'})
  local index, key = k_rolls(span, bucket, job.tenant), k_roll(span, bucket, job.tenant, dims)
  if redis.call('SADD', index, dims) == 1 then redis.call('EXPIRE', index, ttl) end
  for n = 1, #sums, 2 do
    if sums[n + 1] ~= 0 then redis.call('HINCRBY', key, sums[n], int(sums[n + 1])) end
  end
  redis.call('EXPIRE', key, ttl)
end

-- Adds {name, number, name, number, ...} to the hour and the day of `now`.
local function roll(now, job, sums)
  roll_into('h', int(math.floor(now / 3600000)), HOUR_TTL, job, sums)
  roll_into('d', int(math.floor(now / 86400000)), DAY_TTL, job, sums)
end

-- A histogram's bucket for a number of milliseconds: a quarter of an octave wide, 0..95.
local function bucket(ms)
  return math.min(95, math.max(0, math.floor(4 * math.log(math.max(ms, 0) + 1) / math.log(2))))
end

-- Books one try: its ledger row, the job's sums, the rollups. `t` has outcome, billed, estimated (0 or 1), input,
-- output, cached, reasoning, spent (nano-USD, or nil when unpriced), kept (1 when its output is the answer), reason.
local function book(id, job, now, t)
  local priced = t.spent ~= nil or t.billed == 0
  local spent = t.spent or 0
  local wasted = (t.billed == 1 and t.kept ~= 1) and spent or 0
  local row = {
    at = int(now), job = id, tenant = job.tenant, key_id = job.key_id or '', team = job.team or '',
    user = job.user or '', labels = job.labels or '{}', model = job.model, provider = job.provider, lane = job.lane,
    band = job.band, try_no = job.tries or '0', call = job.call or '0', outcome = t.outcome,
    billed = int(t.billed), estimated = int(t.estimated), input = int(t.input), output = int(t.output),
    cached = int(t.cached), reasoning = int(t.reasoning), spent = priced and int(spent) or '',
    wasted = int(wasted), reason = (t.billed == 1 and t.kept ~= 1) and t.reason or '', reserved = '0',
    price_version = job.price_version or '', simulated = job.simulated or '0',
  }
  local flat = {}
  for name, value in pairs(row) do flat[#flat + 1] = name; flat[#flat + 1] = value end
  redis.call('XADD', k_ledger(), 'MAXLEN', '~', 500000, '*', unpack(flat))
  redis.call('HSET', k_job(id), 'row:' .. (job.tries or '0'), cjson.encode(row))
  job.spent = (tonumber(job.spent) or 0) + spent
  job.wasted = (tonumber(job.wasted) or 0) + wasted
  job.unpriced = (tonumber(job.unpriced) or 0) + (priced and 0 or 1)
  redis.call('HSET', k_job(id), 'spent', int(job.spent), 'wasted', int(job.wasted), 'unpriced', int(job.unpriced))
  roll(now, job, {'tries', 1, 'calls', t.billed, 'in', t.billed * t.input, 'out', t.billed * t.output,
    'cached', t.billed * t.cached, 'reasoning', t.billed * t.reasoning, 'spent', spent, 'wasted', wasted,
    'unpriced', priced and 0 or 1})
end

-- What a call is taken to have cost when nobody can ask any more: bytes / 3 is our estimate of tokens.
local function estimate(job)
  local input = math.ceil((tonumber(job.in_bytes) or 0) / 3)
  local output = math.ceil((tonumber(job.out_bytes) or 0) / 3)
  local spent = nil
  if job.price_in and job.price_in ~= '' then -- nano-USD for a million tokens
    spent = math.floor((input * tonumber(job.price_in) + output * tonumber(job.price_out)) / 1000000 + 0.5)
  end
  return {billed = 1, estimated = 1, input = input, output = output, cached = 0, reasoning = 0, spent = spent, kept = 0}
end

-- the end ---------------------------------------------------------------------------------------------------------

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

local function timings_json(job, now, provider_ttft_ms)
  return string.format('{"queue_s":%s,"ttft_s":%s,"provider_ttft_s":%s,"generation_s":%s,"total_s":%s}',
    seconds(job.created_ms, job.claimed_ms), seconds(job.created_ms, job.first_ms),
    provider_ttft_ms and string.format('%.3f', provider_ttft_ms / 1000) or 'null',
    seconds(job.first_ms, now), seconds(job.created_ms, now))
end

-- The index keeps ids as long as their jobs; a bounded look at the oldest at each end keeps it so.
local function trim_index(tenant, state)
  local index = k_index(tenant, state)
  for _, old in ipairs(redis.call('ZRANGE', index, 0, 1)) do
    if redis.call('EXISTS', k_job(old)) == 0 then redis.call('ZREM', index, old) end
  end
end

-- Ends a job for good. `e` has state, rest (JSON members: finish_reason, usage, error), provider_ttft_ms, events_ttl,
-- result_ttl, and set (more fields for the hash). The caller has booked the last try before.
local function finish(id, job, now, e)
  local from = job.state
  local seq = tonumber(job.seq) + 1
  local data = emit(id, seq, e.state, tonumber(job.call) or 0, ',"status":"' .. e.state .. '","calls":' ..
    int(tonumber(job.calls) or 0) .. e.rest .. ',"cost":' .. cost_json(job) .. ',"timings":' ..
    timings_json(job, now, e.provider_ttft_ms))
  redis.call('HSET', k_job(id), 'state', e.state, 'phase', '', 'seq', int(seq), 'finished_ms', int(now), 'end', data,
    'ended_by', job.fence or '', unpack(e.set or {}))
  redis.call('HDEL', k_job(id), 'fence')
  redis.call('ZREM', k_leases(), id)
  if from == 'queued' then unqueue(id, job) end
  move(id, job, from, e.state)
  trim_index(job.tenant, e.state)
  redis.call('EXPIRE', k_job(id), e.result_ttl)
  redis.call('EXPIRE', k_events(id), e.events_ttl)
  if job.fp and job.fp ~= '' and redis.call('GET', k_fp(job.fp)) == id then
    local window = e.state == 'succeeded' and tonumber(job.window_s) or 0
    if window > 0 then redis.call('EXPIRE', k_fp(job.fp), window) else redis.call('DEL', k_fp(job.fp)) end
  end
  local sums = {e.state, 1, 'd' .. bucket(now - job.created_ms), 1, 'd_ms', now - job.created_ms}
  if job.first_ms then
    local ttft = job.first_ms - job.created_ms
    sums[#sums + 1] = 't' .. bucket(ttft); sums[#sums + 1] = 1; sums[#sums + 1] = 't_ms'; sums[#sums + 1] = ttft
  end
  roll(now, job, sums)
end

local function error_json(code, message, retryable)
  return ',"error":{"code":"' .. code .. '","message":"' .. message .. '","retryable":' .. retryable .. '}'
end

-- Back to the queue: at once, or not before `at` (ms).
local function requeue(id, job, now, at, reason)
  local seq = tonumber(job.seq) + 1
  emit(id, seq, 'retrying', tonumber(job.call) or 0, ',"reason":"' .. reason .. '","retry_at":"' .. rfc3339(at) .. '"')
  redis.call('HSET', k_job(id), 'state', 'queued', 'phase', '', 'seq', int(seq), 'not_before_ms', int(at))
  redis.call('HDEL', k_job(id), 'fence')
  redis.call('ZREM', k_leases(), id)
  redis.call('ZADD', k_deadlines(), job.deadline_ms, id)
  move(id, job, 'running', 'queued')
  if at > now then redis.call('ZADD', k_due(), int(at), id) else enqueue(id, job) end
  if at > now then wake() end -- a waiting worker learns the new earliest time
end

-- housekeeping, a bounded number at each call ---------------------------------------------------------------------

local function expire(id, job, now, ttl)
  finish(id, job, now, {state = 'expired', events_ttl = ttl.result, result_ttl = ttl.result,
    rest = error_json('deadline_exceeded', 'job ' .. id .. ' had no answer at its deadline; post it again with a ' ..
    'later deadline_s', 'true')})
end

-- A job whose worker stopped renewing its lease.
local function recover(id, job, now, ttl)
  local sent = job.phase == 'dispatched' or job.phase == 'streaming'
  if sent then
    local t = estimate(job)
    t.outcome, t.reason = 'worker_lost', 'worker_lost'
    book(id, job, now, t)
  end
  local crashes = redis.call('HINCRBY', k_job(id), 'crashes', 1)
  local function fail(code, message)
    finish(id, job, now, {state = 'failed', events_ttl = ttl.result, result_ttl = ttl.result,
      rest = error_json(code, message, 'true')})
  end
  if job.cancel then
    finish(id, job, now, {state = 'cancelled', rest = '', events_ttl = ttl.result, result_ttl = ttl.result})
  elseif now >= tonumber(job.deadline_ms) then
    expire(id, job, now, ttl)
  elseif crashes >= 6 then
    fail('poison', 'job ' .. id .. ' was lost with its worker 6 times; look at the worker logs before a replay')
  elseif sent and job.on_crash == 'fail' then
    fail('worker_lost', 'the worker of job ' .. id .. ' died after the call was sent and on_crash is fail')
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

local function reap(now, lease_ms, ttl)
  local from = pulse(now, lease_ms)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', k_leases(), '-inf', now, 'LIMIT', 0, 16)) do
    local job = job_of(id)
    if job.state ~= 'running' then redis.call('ZREM', k_leases(), id)
    elseif now < from then redis.call('ZADD', k_leases(), int(from), id)
    else recover(id, job, now, ttl) end
  end
end

local function expire_due(now, ttl)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', k_deadlines(), '-inf', now, 'LIMIT', 0, 16)) do
    local job = job_of(id)
    if job.state == 'queued' then expire(id, job, now, ttl) else redis.call('ZREM', k_deadlines(), id) end
  end
end

local function promote(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', k_due(), '-inf', now, 'LIMIT', 0, 32)) do
    redis.call('ZREM', k_due(), id)
    local job = job_of(id)
    if job.state == 'queued' then enqueue(id, job) end
  end
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', k_blocked(), '-inf', now, 'LIMIT', 0, 32)) do
    redis.call('ZREM', k_blocked(), place)
    local band, lane = string.match(place, '^(.-)|(.*)$')
    if redis.call('EXISTS', k_fair(band, lane)) == 1 then
      redis.call('ZADD', k_ready(band), redis.call('HGET', k_turns(), 'n') or 0, lane)
      wake()
    end
  end
end
