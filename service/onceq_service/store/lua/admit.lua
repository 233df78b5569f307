#!lua
-- Admits one request: replays, joins, or creates a job with its first event and its place in the queue, in one step.
-- A second run with the same job id (its reply was lost) changes nothing and answers the same.
-- KEYS: root
-- ARGV: id, tenant, idem, body_hash, fp, window_s, fresh, deadline_ms, idem_ttl_s, limits, fields...
-- `limits` are `<lane>=<limits>` for each of the job's models, with a space between.
-- Returns: {disposition | 'reused' | 'max_cost', job id, the job's hash as a flat list (empty when it was created), created_ms}

local id, tenant, idem, body_hash, fp = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local window_s, fresh = ARGV[6], ARGV[7]
local now = time_ms()
local idem_px = int(tonumber(ARGV[8]) + tonumber(ARGV[9]) * 1000)

local function answer(disposition, other)
  return {disposition, other, redis.call('HGETALL', k_job(other)), int(now)}
end

local function already(other, state)
  local job = job_of(other)
  if terminal(state) then
    roll(now, job, {'replayed', 1, 'avoided', answer_cost(job) or 0})
    return answer('replayed', other)
  end
  redis.call('HINCRBY', k_job(other), 'joins', 1) -- what it avoids is known at the end
  roll(now, job, {'joined', 1})
  return answer('joined', other)
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

local job = {tenant = tenant, seq = '1'}
for n = 11, #ARGV, 2 do job[ARGV[n]] = ARGV[n + 1] end
if over_max_cost(job) then return {'max_cost', id, {}, int(now)} end
local deadline, created = now + tonumber(ARGV[8]), now - (tonumber(job.accept_ms) or 0) -- when the API had read it
job.created_ms, job.deadline_ms, job.mark_ms, job.phases = int(created), int(deadline), int(now), int(now - created)
redis.call('HSET', k_job(id), 'state', 'queued', 'phase', '', 'seq', '1', 'tenant', tenant,
  'created_ms', job.created_ms, 'mark_ms', job.mark_ms, 'phases', job.phases,
  'deadline_ms', int(deadline), 'calls', '0', 'call', '0', 'tries', '0', 'fp', fp, 'window_s', window_s,
  unpack(ARGV, 11))
if idem ~= '' then redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px) end
if fp ~= '' then redis.call('SET', k_fp(fp), id, 'PX', idem_px) end
emit(id, 1, 'queued', 0, '')
redis.call('ZADD', k_index(tenant, 'queued'), job.created_ms, id)
redis.call('ZADD', k_deadlines(), int(start_by(job)), id)
if job.grace_ms then redis.call('ZADD', k_watched(), int(now + tonumber(job.grace_ms)), id) end
if job.retry_of and redis.call('HGET', k_job(job.retry_of), 'tenant') == tenant then -- it may have lapsed
  redis.call('HSET', k_job(job.retry_of), 'replayed_by', id)
  redis.call('ZREM', k_dead(tenant), job.retry_of)
  redis.call('ZREM', k_buried(), job.retry_of)
end
note_queued(id, job)
for lane, limits in string.gmatch(ARGV[10], '(%S+)=([%d,]*)') do configure_lane(lane, limits) end
roll(now, job, {'jobs', 1})
local at = tonumber(job.not_before_ms) or 0
if at > now then delay(id, at)
else
  route(id, job, now)
  enqueue(id, job)
end
return {'created', id, {}, job.created_ms}
