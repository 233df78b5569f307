#!lua
-- Admits requests: each one replays, joins, or creates a job with its first event and its place in the queue, all in one
-- step. Posts of one moment come together, and what they share is done once for all of them: the time, their lanes'
-- limits and turns, sums, one ZADD an index. A request sees the jobs that those before it made.
-- A second run with the same job id (its reply was lost) changes nothing and answers the same; only a budget without room
-- counts it as refused once more.
-- An error (a key that holds something else) is the answer of those requests alone that met it: what they had made is
-- undone, and the others are as if they had come without them.
-- KEYS: root
-- ARGV: idem_ttl_s, (size, id, tenant, idem, body, fp, fresh, deadline_ms, accept_ms, limits, batch, create, fields...)...
-- `size` is how many values of this request follow, `body` the hash of its body, `accept_ms` how long ago the API had read
-- it. `limits` are `<lane>=<limits>` for each of the job's models, with a space between. `create` 0: only a job that is there.
-- Returns, for each: {disposition | 'reused' | 'max_cost' | 'absent' | 'stale' | 'unbounded' | 'over_budget' | 'error', job id,
-- a flat list (the job's hash where it was there; what the budget lacks; what went wrong), created_ms}

local now = time_ms()
local idem_ms = tonumber(ARGV[1]) * 1000
local jobs = {} -- what this run has created: id, job, and what else `undo` must know
local undone = {} -- why, by job id
local indexes = {} -- by key: score, job id, ... to be added
local turns = {} -- band, lane, tenant and job ids of those that may start, by name
local parts = {} -- what `once` has made, by name

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

-- What a request has for a field of its job's hash.
local function field(name, first, last)
  for n = first, last, 2 do
    if ARGV[n] == name then return ARGV[n + 1] end
  end
end

-- A post of a job with on_disconnect cancel that is there: the longer grace of both runs from here. Who posts it without
-- that wish wants its answer whoever follows it, so nobody's leaving ends it any more.
local function renew(id, job, grace)
  if not grace then
    redis.call('HDEL', k_job(id), 'grace_ms')
    redis.call('ZREM', k_watched(), id)
    return
  end
  local longest = math.max(job.grace_ms, grace)
  redis.call('HSET', k_job(id), 'grace_ms', int(longest))
  redis.call('ZADD', k_watched(), 'XX', 'GT', int(now + longest), id)
end

local function already(id, other, state, batch, first, last)
  local job = job_of(other)
  if job.grace_ms and not terminal(state) then renew(other, job, field('grace_ms', first, last)) end
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
local function known(id, idem, body_hash, fp, fresh, batch, first, last)
  if idem ~= '' then
    local found = redis.call('GET', k_idem(idem))
    if found then
      local other, hash = string.match(found, '^(.-) (.*)$')
      local state = redis.call('HGET', k_job(other), 'state')
      if state and hash ~= body_hash then return {'reused', other, {}, int(now)} end
      if state then return already(id, other, state, batch, first, last) end
    end
  end
  if fp ~= '' and fresh == '0' then
    local other = redis.call('GET', k_fp(fp))
    local job = other and read(k_job(other), {'state', 'cancel'}) or {}
    local state = job.state
    if job.cancel and state and not terminal(state) then state = nil end -- it will have no answer for who asks now
    if state and (not terminal(state) or state == 'succeeded') then
      if idem ~= '' then
        local left = math.max(0, tonumber(redis.call('HGET', k_job(other), 'deadline_ms')) - now)
        redis.call('SET', k_idem(idem), other .. ' ' .. body_hash, 'PX', int(left + idem_ms))
      end
      return already(id, other, state, batch, first, last)
    end
  end
end

local function mark_replayed(id, tenant, of)
  if redis.call('HGET', k_job(of), 'tenant') ~= tenant then return end -- it may have lapsed
  redis.call('ZREM', k_dead(tenant), of)
  redis.call('ZREM', k_buried(), of)
  redis.call('HSET', k_job(of), 'replayed_by', id)
end

local function create(id, tenant, idem, body_hash, fp, fresh, deadline_ms, accept_ms, limits, batch, first, last)
  local job = {tenant = tenant, seq = '1', state = 'queued'}
  for n = first, last, 2 do job[ARGV[n]] = ARGV[n + 1] end
  if over_max_cost(job) then return {'max_cost', id, {}, int(now)} end
  local made = {id = id, job = job, idem = idem, fp = fp, batch = batch}
  jobs[#jobs + 1] = made
  local short = job.budgets and reserve(id, job, now)
  if short then
    jobs[#jobs] = nil
    return {short.word, id, refusal_of(short), int(now)}
  end
  local deadline, created = now + tonumber(deadline_ms), now - tonumber(accept_ms)
  job.created_ms, job.deadline_ms, job.mark_ms, job.phases = int(created), int(deadline), int(now), int(now - created)
  for lane, own in string.gmatch(limits, '(%S+)=([%d,]*)') do once('limits ' .. lane, configure_lane, lane, own) end
  local delayed = (tonumber(job.not_before_ms) or 0) > now
  job.held = delayed and '' or once('held ' .. job.lane, held_at, job.lane, now)
  redis.call('HSET', k_job(id), 'state', 'queued', 'seq', '1', 'tenant', tenant,
    'created_ms', job.created_ms, 'mark_ms', job.mark_ms, 'phases', job.phases, 'held', job.held,
    'deadline_ms', job.deadline_ms, 'calls', '0', 'call', '0', 'tries', '0',
    unpack(ARGV, first, last))
  local idem_px = int(tonumber(deadline_ms) + idem_ms)
  if idem ~= '' then redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px) end
  if fp ~= '' and fresh == '1' then made.fp_was, made.fp_ms = redis.call('GET', k_fp(fp)), redis.call('PTTL', k_fp(fp)) end
  if fp ~= '' then redis.call('SET', k_fp(fp), id, 'PX', idem_px) end
  log_unheard(id, 'queued')
  index(k_index(tenant, 'queued'), job.created_ms, id)
  index(k_deadlines(), int(start_by(job)), id)
  index(k_queued(job.band), startable(job), id)
  if job.grace_ms then -- at once: a join of the same turn may take it out again
    redis.call('ZADD', k_watched(), int(now + tonumber(job.grace_ms)), id)
  end
  if batch ~= '' then join_batch(id, job, batch) end
  if delayed then delay(id, tonumber(job.not_before_ms), job.lane)
  else
    local lane = job.lane
    route(id, job, now)
    if job.lane ~= lane then wait_begins(id, job) end
    index(k_wait(job.band, job.lane, tenant), job.created_ms, id)
    may_move(id, job)
    local name = table.concat({job.band, job.lane, tenant}, '\n')
    local turn = turns[name] or {job.band, job.lane, tenant, ids = {}}
    turns[name] = turn
    turn.ids[#turn.ids + 1] = id
  end
  return {'created', id, {}, job.created_ms}
end

local function why(problem) return type(problem) == 'table' and problem.err or tostring(problem) end

-- Does what several new jobs share; where it fails, all of them have failed.
local function for_all(ids, act, ...)
  local done, problem = pcall(act, ...)
  if done then return end
  for _, id in ipairs(ids) do undone[id] = undone[id] or why(problem) end
end

local function add(key, rows) redis.call('ZADD', key, unpack(rows)) end

local function ids_of(rows)
  local ids = {}
  for n = 2, #rows, 2 do ids[#ids + 1] = rows[n] end
  return ids
end

-- The new jobs that have not failed, by the sums that they are in: {job = one of them, ids}.
local function by_sums()
  local groups = {}
  for _, made in ipairs(jobs) do
    local id, job = made.id, made.job
    if not undone[id] then
      local key = table.concat({job.tenant, job.model, job.band, job.team or '', job.simulated or '', job.key_id or '',
        job.group or ''}, '\n')
      groups[key] = groups[key] or {job = job, ids = {}}
      table.insert(groups[key].ids, id)
    end
  end
  return groups
end

local function has_one(ids)
  for _, id in ipairs(ids) do
    if not undone[id] then return true end
  end
  return false
end

-- Gives the new jobs their places, turns, and share of the sums.
local function place()
  for _, made in ipairs(jobs) do
    local id, job = made.id, made.job
    if job.retry_of and not undone[id] then for_all({id}, mark_replayed, id, job.tenant, job.retry_of) end
  end
  for key, rows in pairs(indexes) do for_all(ids_of(rows), add, key, rows) end
  for _, turn in pairs(turns) do
    if has_one(turn.ids) then for_all(turn.ids, take_part, unpack(turn, 1, 3)) end
  end
  for _, group in pairs(by_sums()) do for_all(group.ids, roll, now, group.job, {'jobs', #group.ids}) end
end

local function text_at(key)
  local text = redis.pcall('GET', key)
  return type(text) == 'string' and text or ''
end

-- Takes away all that a job has come to. Nothing here may fail: what a step can't take away was not there.
local function undo(made)
  local id, job = made.id, made.job
  if job.holding then job.holds = table.concat(job.holding, ' ') end
  if job.holds then pcall(let_go, id, job, now) end
  for key in pairs(indexes) do redis.pcall('ZREM', key, id) end
  for _, key in ipairs({k_movable(job.lane), k_due(), k_watched()}) do redis.pcall('ZREM', key, id) end
  if made.batch ~= '' then pcall(leave_batch, id, job.tenant, made.batch, job.result_ttl_s) end
  if made.idem ~= '' and string.match(text_at(k_idem(made.idem)), '^%S*') == id then
    redis.call('DEL', k_idem(made.idem))
  end
  if made.fp ~= '' and text_at(k_fp(made.fp)) == id then
    redis.call('DEL', k_fp(made.fp))
    if made.fp_was and made.fp_ms > 0 then redis.call('SET', k_fp(made.fp), made.fp_was, 'PX', made.fp_ms) end
  end
  redis.call('DEL', k_job(id), k_events(id))
  pcall(step_back, job.band, job.lane, job.tenant)
end

local function admit(at, last)
  local id, tenant, idem, body_hash, fp, fresh, deadline_ms, accept_ms, limits, batch, may_create =
    unpack(ARGV, at + 1, at + 11)
  return redis.call('EXISTS', k_job(id)) == 1 and answer('created', id)
    or known(id, idem, body_hash, fp, fresh, batch, at + 12, last)
    or may_create == '0' and {'absent', id, {}, int(now)}
    or create(id, tenant, idem, body_hash, fp, fresh, deadline_ms, accept_ms, limits, batch, at + 12, last)
end

local out, at = {}, 2
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  local done, told = pcall(admit, at, last)
  if not done then
    undone[ARGV[at + 1]] = why(told)
    told = {'error', ARGV[at + 1]}
  end
  out[#out + 1] = told
  at = last + 1
end

place()
if next(undone) then
  for n, told in ipairs(out) do
    if undone[told[2]] then out[n] = {'error', told[2], {'why', undone[told[2]]}, int(now)} end
  end
  for _, made in ipairs(jobs) do
    if undone[made.id] then undo(made) end
  end
end

for _, turn in pairs(turns) do
  local woken = 0
  for _, id in ipairs(turn.ids) do woken = woken + (undone[id] and 0 or 1) end
  if woken > 0 then wake(turn[2], woken) end
end
return out
