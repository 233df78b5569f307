#!lua
-- Admits requests: each one replays, joins, or creates a job with its first event and its place in the queue, all in one
-- step. Posts of one moment come together, and what they share is done once for all of them: the time, their lanes'
-- limits and turns, sums, one ZADD an index. A request sees the jobs that those before it made.
-- A second run with the same job id (its reply was lost) changes nothing and answers the same.
-- KEYS: root
-- ARGV: idem_ttl_s, (size, id, tenant, idem, body, fp, window_s, fresh, deadline_ms, accept_ms, limits, batch, create, fields...)...
-- `size` is how many values of this request follow, `body` the hash of its body, `accept_ms` how long ago the API had read
-- it. `limits` are `<lane>=<limits>` for each of the job's models, with a space between. `create` 0: only a job that is there.
-- Returns, for each: {disposition | 'reused' | 'max_cost' | 'absent' | 'stale' | 'unbounded' | 'over_budget', job id, a flat
-- list (the job's hash where it was there; of the three last words what the budget lacks), created_ms}

local now = time_ms()
local idem_ms = tonumber(ARGV[1]) * 1000
local indexes = {} -- by key: score, job id, ... to be added
local bands, groups = {}, {} -- how many jobs were created in each, by name
local parts = {} -- what `once` has made, by name
local woken = 0

local function index(key, score, id)
  local rows = indexes[key]
  if not rows then rows = {}; indexes[key] = rows end
  rows[#rows + 1] = score
  rows[#rows + 1] = id
end

-- What `make` gives for a name, made once.
local function once(name, make, ...)
  local known = parts[name]
  if known == nil then known = make(...) or true; parts[name] = known end
  return known
end

local function answer(disposition, other)
  return {disposition, other, redis.call('HGETALL', k_job(other)), int(now)}
end

-- A post that is repeated because its reply was lost has joined already.
local function joins_first(id, other)
  if redis.call('ZADD', k_joined(other), 'NX', int(now), id) == 0 then return false end
  redis.call('ZREMRANGEBYRANK', k_joined(other), 0, -1001)
  redis.call('EXPIRE', k_joined(other), 60)
  return true
end

local function already(id, other, state, batch)
  local job = job_of(other)
  if batch ~= '' then join_batch(other, job, batch, redis.call('HGET', k_job(other), 'result_ttl_s') or 86400) end
  if not joins_first(id, other) then return answer(terminal(state) and 'replayed' or 'joined', other) end
  if terminal(state) then
    roll(now, job, {'replayed', 1, 'avoided', answer_cost(job) or 0})
    return answer('replayed', other)
  end
  redis.call('HINCRBY', k_job(other), 'joins', 1) -- what it avoids is known at the end
  roll(now, job, {'joined', 1})
  return answer('joined', other)
end

-- The answer to a request whose key or question is known; nil for a new one.
local function known(id, tenant, idem, body_hash, fp, fresh, batch)
  if idem ~= '' then
    local found = redis.call('GET', k_idem(idem))
    if found then
      local other, hash = string.match(found, '^(.-) (.*)$')
      local state = redis.call('HGET', k_job(other), 'state')
      if state and hash ~= body_hash then return {'reused', other, {}, int(now)} end
      if state then return already(id, other, state, batch) end
    end
  end
  if fp ~= '' and fresh == '0' then
    local other = redis.call('GET', k_fp(fp))
    local state = other and redis.call('HGET', k_job(other), 'state')
    if state and (not terminal(state) or state == 'succeeded') then
      if idem ~= '' then
        local left = math.max(0, tonumber(redis.call('HGET', k_job(other), 'deadline_ms')) - now)
        redis.call('SET', k_idem(idem), other .. ' ' .. body_hash, 'PX', int(left + idem_ms))
      end
      return already(id, other, state, batch)
    end
  end
end

local function mark_replayed(id, tenant, of)
  if redis.call('HGET', k_job(of), 'tenant') ~= tenant then return end -- it may have lapsed
  redis.call('HSET', k_job(of), 'replayed_by', id)
  redis.call('ZREM', k_dead(tenant), of)
  redis.call('ZREM', k_buried(), of)
end

-- Counts a new job in its band and in the sums of its group, which are written once for all.
local function tell(job)
  bands[job.band] = (bands[job.band] or 0) + 1
  local name = table.concat({job.tenant, job.model, job.band, job.team or '', job.simulated or '', job.key_id or '',
    job.group or ''}, '\n')
  local group = groups[name]
  if not group then
    group = {tenant = job.tenant, model = job.model, band = job.band, team = job.team, simulated = job.simulated,
      key_id = job.key_id, group = job.group, jobs = 0}
    groups[name] = group
  end
  group.jobs = group.jobs + 1
end

local function create(id, tenant, idem, body_hash, fp, window_s, deadline_ms, accept_ms, limits, batch, first, last)
  local job = {tenant = tenant, seq = '1', state = 'queued'}
  for n = first, last, 2 do job[ARGV[n]] = ARGV[n + 1] end
  if over_max_cost(job) then return {'max_cost', id, {}, int(now)} end
  local short = job.budgets and reserve(id, job, now)
  if short then return {short.word, id, refusal_of(short), int(now)} end
  local deadline, created = now + tonumber(deadline_ms), now - tonumber(accept_ms)
  job.created_ms, job.deadline_ms, job.mark_ms, job.phases = int(created), int(deadline), int(now), int(now - created)
  for lane, own in string.gmatch(limits, '(%S+)=([%d,]*)') do once('limits ' .. lane, configure_lane, lane, own) end
  local delayed = (tonumber(job.not_before_ms) or 0) > now
  job.held = delayed and '' or once('held ' .. job.lane, held_at, job.lane, now)
  redis.call('HSET', k_job(id), 'state', 'queued', 'seq', '1', 'tenant', tenant,
    'created_ms', job.created_ms, 'mark_ms', job.mark_ms, 'phases', job.phases, 'held', job.held,
    'deadline_ms', job.deadline_ms, 'calls', '0', 'call', '0', 'tries', '0', 'fp', fp, 'window_s', window_s,
    unpack(ARGV, first, last))
  local idem_px = int(tonumber(deadline_ms) + idem_ms)
  if idem ~= '' then redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px) end
  if fp ~= '' then redis.call('SET', k_fp(fp), id, 'PX', idem_px) end
  log_unheard(id, 'queued')
  index(k_index(tenant, 'queued'), job.created_ms, id)
  index(k_deadlines(), int(start_by(job)), id)
  index(k_queued(job.band), startable(job), id)
  if job.grace_ms then index(k_watched(), int(now + tonumber(job.grace_ms)), id) end
  if job.retry_of then mark_replayed(id, tenant, job.retry_of) end
  if batch ~= '' then join_batch(id, job, batch) end
  tell(job)
  if delayed then delay(id, tonumber(job.not_before_ms))
  else
    local lane = job.lane
    route(id, job, now)
    if job.lane ~= lane then wait_begins(id, job) end
    index(k_wait(job.band, job.lane, tenant), job.created_ms, id)
    may_move(id, job)
    once(table.concat({'part', job.band, job.lane, tenant}, '\n'), take_part, job.band, job.lane, tenant)
    woken = woken + 1
  end
  return {'created', id, {}, job.created_ms}
end

local out, at = {}, 2
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  local id, tenant, idem, body_hash, fp, window_s, fresh, deadline_ms, accept_ms, limits, batch, may_create =
    unpack(ARGV, at + 1, at + 12)
  out[#out + 1] = redis.call('EXISTS', k_job(id)) == 1 and answer('created', id)
    or known(id, tenant, idem, body_hash, fp, fresh, batch)
    or may_create == '0' and {'absent', id, {}, int(now)}
    or create(id, tenant, idem, body_hash, fp, window_s, deadline_ms, accept_ms, limits, batch, at + 13, last)
  at = last + 1
end

for key, rows in pairs(indexes) do redis.call('ZADD', key, unpack(rows)) end
for band, jobs in pairs(bands) do redis.call('HINCRBY', k_totals(), band, jobs) end
for _, group in pairs(groups) do roll(now, group, {'jobs', group.jobs}) end
if woken > 0 then wake(woken) end
return out
