#!lua
-- Admits one request: replays, joins, or creates a job with its first event and its place in the queue, in one step.
-- A second run with the same job id (its reply was lost) changes nothing and answers the same.
-- KEYS: root
-- ARGV: id, tenant, idem, body_hash, fp, window_s, fresh, deadline_ms, idem_ttl_s, limits, fields...
-- Returns: {disposition | 'reused', job id, the job's hash as a flat list (empty when it was created), created_ms}

local id, tenant, idem, body_hash, fp = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local window_s, fresh = ARGV[6], ARGV[7]
local now = time_ms()
local idem_px = int(tonumber(ARGV[8]) + tonumber(ARGV[9]) * 1000)

local function answer(disposition, other)
  return {disposition, other, redis.call('HGETALL', k_job(other)), int(now)}
end

local function already(other, state)
  local job = job_of(other)
  local disposition = terminal(state) and 'replayed' or 'joined'
  roll(now, job, {disposition, 1})
  return answer(disposition, other)
end

if redis.call('EXISTS', k_job(id)) == 1 then return answer('created', id) end

if idem ~= '' then
  local known = redis.call('GET', k_idem(idem))
  if known then
    local other, hash = string.match(known, '^(.-) (.*)$')
    local state = redis.call('HGET', k_job(other), 'state')
    if state and hash ~= body_hash then return {'reused', other, {}, int(now)} end
    if state then return already(other, state) end
  end
end

if fp ~= '' and fresh == '0' then
  local other = redis.call('GET', k_fp(fp))
  local state = other and redis.call('HGET', k_job(other), 'state')
  if state and (not terminal(state) or state == 'succeeded') then
    if idem ~= '' then
      local left = math.max(0, tonumber(redis.call('HGET', k_job(other), 'deadline_ms')) - now)
      redis.call('SET', k_idem(idem), other .. ' ' .. body_hash, 'PX', int(left + tonumber(ARGV[9]) * 1000))
    end
    return already(other, state)
  end
end

local deadline = now + tonumber(ARGV[8])
redis.call('HSET', k_job(id), 'state', 'queued', 'phase', '', 'seq', '1', 'tenant', tenant, 'created_ms', int(now),
  'deadline_ms', int(deadline), 'calls', '0', 'call', '0', 'tries', '0', 'fp', fp, 'window_s', window_s,
  unpack(ARGV, 11))
local job = read(k_job(id), {'band', 'lane', 'team', 'model', 'simulated'})
job.tenant, job.created_ms = tenant, int(now)
if idem ~= '' then redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px) end
if fp ~= '' then redis.call('SET', k_fp(fp), id, 'PX', idem_px) end
emit(id, 1, 'queued', 0, '')
redis.call('ZADD', k_index(tenant, 'queued'), int(now), id)
redis.call('ZADD', k_deadlines(), int(deadline), id)
redis.call('HINCRBY', k_totals(), job.band, 1)
if ARGV[10] ~= '' and redis.call('HGET', k_lane(job.lane), 'limits') ~= ARGV[10] then
  redis.call('HSET', k_lane(job.lane), 'limits', ARGV[10])
end
if ARGV[10] ~= '' then redis.call('EXPIRE', k_lane(job.lane), LANE_TTL) end
enqueue(id, job)
roll(now, job, {'jobs', 1})
return {'created', id, {}, int(now)}
