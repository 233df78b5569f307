-- Where a job's time goes (onceq.wire.Phases). Up to `mark_ms` every millisecond since its creation is in one phase, so
-- that they sum to the total whatever happened; each transition moves the mark to now.

local PHASES = {'accept', 'scheduled', 'budget', 'queue', 'limiter', 'backoff', 'worker', 'connect', 'provider_ttft',
  'generation', 'stalls', 'delivery'}

local function phases_of(job)
  if job.took then return job.took end
  local took, n = {}, 0
  for _, name in ipairs(PHASES) do took[name] = 0 end
  for ms in string.gmatch(job.phases or '', '%d+') do
    n = n + 1
    took[PHASES[n]] = tonumber(ms)
  end
  job.took = took
  return took
end

-- The time up to `till` was this phase's. A clock that was set back takes nothing away.
local function spend(job, phase, till)
  local from, took = tonumber(job.mark_ms or job.created_ms), phases_of(job)
  local ms = math.max(0, math.floor(till) - from)
  took[phase] = took[phase] + ms
  job.mark_ms = from + ms
end

-- As fields of the job, for a write that says more of it.
local function phases_said(job)
  local took, packed = phases_of(job), {}
  for n, name in ipairs(PHASES) do packed[n] = int(took[name]) end
  return 'mark_ms', int(job.mark_ms), 'phases', table.concat(packed, ' ')
end

local function save_phases(id, job) redis.call('HSET', k_job(id), phases_said(job)) end

-- A lane is held by the provider's limits (`limiter`) or by its failures (`backoff`): how long in all, and until when.
local function hold(lane, now, till, phase)
  local l = read(k_lane(lane), {phase .. '_till'})
  local from = math.max(now, tonumber(l[phase .. '_till']) or 0)
  if till <= from then return end
  redis.call('HINCRBY', k_lane(lane), phase .. '_ms', int(till - from))
  redis.call('HSET', k_lane(lane), phase .. '_till', int(till))
end

-- A provider that works again is held for no longer.
local function unhold(lane, now, phase)
  local till = tonumber(redis.call('HGET', k_lane(lane), phase .. '_till') or 0)
  if till <= now then return end
  redis.call('HINCRBY', k_lane(lane), phase .. '_ms', int(now - till))
  redis.call('HSET', k_lane(lane), phase .. '_till', int(now))
end

-- How long a lane was held up to `now`, in all: {limiter, backoff}.
local function held_so_far(lane, now)
  local l = read(k_lane(lane), {'limiter_ms', 'limiter_till', 'backoff_ms', 'backoff_till'})
  local function up_to(phase)
    return (tonumber(l[phase .. '_ms']) or 0) - math.max(0, (tonumber(l[phase .. '_till']) or 0) - now)
  end
  return {up_to('limiter'), up_to('backoff')}
end

local function held_at(lane, ms)
  local held = held_so_far(lane, ms)
  return int(held[1]) .. ' ' .. int(held[2])
end

-- A job joins a lane's queue: what the lane was held for before is not this job's wait. What holds a lane holds no job
-- that is only to be stopped.
local function wait_begins(id, job)
  job.held = job.cancel and '' or held_at(job.lane, tonumber(job.mark_ms or job.created_ms))
  redis.call('HSET', k_job(id), 'held', job.held)
end

local function held_since(job, now, lane)
  local limiter, backoff = string.match(job.held or '', '^(%-?%d+) (%-?%d+)$')
  if not limiter then return 0, 0 end
  local held = held_so_far(lane, now)
  return math.max(0, held[1] - limiter), math.max(0, held[2] - backoff)
end

-- What a job waits for outside its lane's queue: its own time, or the one that its last try earned.
local DELAYED = {provider_rate_limited = 'limiter', worker_lost = 'worker', internal_error = 'worker',
  budget_exceeded = 'budget'}

local function spend_delay(job, now)
  local at = math.min(now, tonumber(job.not_before_ms) or 0)
  if at <= tonumber(job.mark_ms or job.created_ms) then return end
  spend(job, job.wait_reason and (DELAYED[job.wait_reason] or 'backoff') or 'scheduled', at)
end

-- The time of a queued job up to now: its delay, then what the provider held its lane for (`lane`: the one that it has
-- just left); the rest is the queue's.
local function spend_wait(job, now, lane)
  spend_delay(job, now)
  local limiter, backoff = held_since(job, now, lane or job.lane)
  spend(job, 'limiter', math.min(now, tonumber(job.mark_ms or job.created_ms) + limiter))
  spend(job, 'backoff', math.min(now, job.mark_ms + backoff))
  spend(job, 'queue', now)
end

-- The time of a call as its worker measured it, in ms; what is left over went by between the worker and Redis.
local CALL = {'worker', 'connect', 'provider_ttft', 'generation', 'stalls'}

local function spend_call(job, measured, now)
  if measured == '' then return end
  local n = 0
  for ms in string.gmatch(measured, '%d+') do
    n = n + 1
    spend(job, CALL[n], math.min(now, tonumber(job.mark_ms or job.created_ms) + tonumber(ms)))
  end
  spend(job, 'delivery', now)
end
