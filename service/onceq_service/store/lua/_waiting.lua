-- Where jobs wait: by band, lane and tenant; and which state index they are in.

local LANE_TTL = 8 * 86400 -- longer than the longest deadline: a waiting job always finds its lane's limits

-- How often (ms) it is seen whether jobs of a lane that is held back may move to another model's.
local LOOK_AGAIN = 1000

-- Wakes workers that wait and serve the lane's provider, as many as there are new jobs (`n`, 1 when it is nil): the word
-- of a job is lost on a worker that can't run it.
local function wake(lane, n)
  local key, ones = k_wake(string.match(lane, '^[^/]+')), {}
  for k = 1, math.min(n or 1, 64 - redis.call('LLEN', key)) do ones[k] = '1' end
  if ones[1] then redis.call('RPUSH', key, unpack(ones)) end
end

-- Who waits in a lane has a turn there, and the lowest turn of a band is next (start-time fair queueing). A tenant's
-- turns are one step (1 / weight) apart, whichever lanes they are in, and none is before the one that came last: neither
-- many models nor coming back again and again make a share larger.

local function step(tenant) return 1 / (tonumber(redis.call('HGET', k_weights(), tenant)) or 1) end

-- The highest turn that has come. In a queue from before there were any, lanes stand at how many claims had been made.
local function last_turn(band)
  local last = redis.call('HGET', k_turns(), 'last:' .. band)
  if last then return tonumber(last) end
  last = redis.call('HGET', k_turns(), 'n') or 0
  redis.call('HSET', k_turns(), 'last:' .. band, last)
  return tonumber(last)
end

local function next_turn(band, tenant, last)
  local turn = math.max(last or last_turn(band), tonumber(redis.call('ZSCORE', k_shares(band), tenant) or 0))
  redis.call('ZADD', k_shares(band), turn + step(tenant), tenant)
  return turn
end

-- A lane's turn is that of whoever is first in it; a lane in which nobody waits has none.
local function line_up(band, lane)
  local turn = redis.call('ZRANGE', k_fair(band, lane), 0, 0, 'WITHSCORES')[2]
  if turn then redis.call('ZADD', k_ready(band), turn, lane) end
  return turn
end

local function take_part(band, lane, tenant)
  local fair = k_fair(band, lane)
  if not redis.call('ZSCORE', fair, tenant) then redis.call('ZADD', fair, next_turn(band, tenant), tenant) end
  if not redis.call('ZSCORE', k_blocked(), band .. '|' .. lane) then line_up(band, lane) end
end

-- Remembers a waiting job that another model may answer. If its lane is blocked it is looked at again soon.
local function may_move(id, job)
  if (job.chain or '') == '' or job.resuming then return end
  redis.call('ZADD', k_movable(job.lane), 0, id)
  redis.call('EXPIRE', k_movable(job.lane), LANE_TTL)
  redis.call('ZADD', k_blocked(), 'XX', 'LT', int(tonumber(job.mark_ms or job.created_ms) + LOOK_AGAIN),
    job.band .. '|' .. job.lane)
end

-- Puts a job where `next` finds it. A job whose workers died twice waits apart, so that a third worker has nothing else
-- to lose. So does a cancelled one whose call goes on: it is paid for until a worker stops it, whatever holds its lane, and
-- of those that run alone it is the first.
local function enqueue(id, job)
  wait_begins(id, job)
  local apart = (tonumber(job.crashes) or 0) >= 2 and k_suspects() or job.cancel and k_stops()
  if apart then
    redis.call('ZADD', apart, job.cancel and 0 or job.created_ms, id)
    wake(job.lane)
    return
  end
  redis.call('ZADD', k_wait(job.band, job.lane, job.tenant), job.created_ms, id)
  may_move(id, job)
  take_part(job.band, job.lane, job.tenant)
  wake(job.lane)
end

-- Takes a tenant out of the turn when none of its jobs waits in the lane any more, and the lane when nobody's does. Says
-- whether the tenant is left, and whether the lane is.
local function settle_lane(band, lane, tenant)
  if redis.call('EXISTS', k_wait(band, lane, tenant)) == 1 then return true, true end
  redis.call('ZREM', k_fair(band, lane), tenant)
  if redis.call('EXISTS', k_fair(band, lane)) == 1 then return false, true end
  redis.call('ZREM', k_ready(band), lane)
  redis.call('ZREM', k_blocked(), band .. '|' .. lane)
  return false, false
end

-- A job has left its lane without a start: a turn there that its tenant does not need any more costs it nothing.
local function step_back(band, lane, tenant)
  if not redis.call('ZSCORE', k_fair(band, lane), tenant) then return end
  local waits, open = settle_lane(band, lane, tenant)
  local free = not waits and tonumber(redis.call('ZINCRBY', k_shares(band), -step(tenant), tenant))
  if free and free <= last_turn(band) then redis.call('ZREM', k_shares(band), tenant) end
  if open and redis.call('ZSCORE', k_ready(band), lane) then line_up(band, lane) end
end

-- The opposite of enqueue.
local function step_out(id, job)
  redis.call('ZREM', k_wait(job.band, job.lane, job.tenant), id)
  redis.call('ZREM', k_movable(job.lane), id)
  redis.call('ZREM', k_suspects(), id)
  redis.call('ZREM', k_stops(), id)
  step_back(job.band, job.lane, job.tenant)
end

local function unqueue(id, job)
  redis.call('ZREM', k_due(), id)
  redis.call('ZREM', k_deadlines(), id)
  step_out(id, job)
end

-- Until when (ms) a queued job must start: its deadline, or before its first start the end of its time to wait,
-- which runs from when it may start (`ready_ms`: a delay that is over).
local function start_by(job)
  local deadline = tonumber(job.deadline_ms)
  if not job.queue_ms or job.sent_ms then return deadline end
  local from = math.max(tonumber(job.created_ms), tonumber(job.not_before_ms) or 0, tonumber(job.ready_ms) or 0)
  return math.min(deadline, from + tonumber(job.queue_ms))
end

local function delay(id, at, lane)
  redis.call('ZADD', k_due(), int(at), id)
  wake(lane) -- a waiting worker learns the new earliest time
end

-- When (ms) a queued job could have started.
local function startable(job) return int(math.max(tonumber(job.created_ms), tonumber(job.not_before_ms) or 0)) end

local function move(id, job, from, to)
  redis.call('ZREM', k_index(job.tenant, from), id)
  redis.call('ZADD', k_index(job.tenant, to), job.created_ms, id)
  if from == 'queued' then redis.call('ZREM', k_queued(job.band), id) end
  if to == 'queued' then redis.call('ZADD', k_queued(job.band), startable(job), id) end
end
