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

-- Turns are numbers, the lowest is next (start-time fair queueing). A tenant that waits in a lane has a turn in the band for
-- it; those of all its lanes are a step (1 / weight) apart, and none is before the last that came: neither many models nor
-- coming back again and again make a share larger. A lane that may start a job stands in its band at the earliest turn in
-- it. In a lane that is slower than its band turns come faster than they can be had: who has one in the band that has come
-- gets one in the lane, and of these the lowest is next, so that weights hold there too.

local LAST = ' last' -- beside the tenants, none of which has a space

local function shares(band, lane) return k_shares(lane and band .. '|' .. lane or band) end

local function step(tenant) return 1 / (tonumber(redis.call('HGET', k_weights(), tenant)) or 1) end

-- The highest turn that has come. In a queue from before there were any, lanes stand at how many claims had been made.
local function last_turn(band, lane)
  local last = redis.call('ZSCORE', shares(band, lane), LAST)
  if last then return tonumber(last) end
  last = not lane and redis.call('HGET', k_turns(), 'n') or 0
  redis.call('ZADD', shares(band, lane), last, LAST)
  return tonumber(last)
end

local function next_turn(band, lane, tenant, last)
  local free = tonumber(redis.call('ZSCORE', shares(band, lane), tenant) or 0)
  local turn = math.max(last or last_turn(band, lane), free)
  redis.call('ZADD', shares(band, lane), turn + step(tenant), tenant)
  return turn
end

-- A turn from which nothing was started costs nothing.
local function give_back(band, lane, tenant)
  local free = tonumber(redis.call('ZINCRBY', shares(band, lane), -step(tenant), tenant))
  if free <= last_turn(band, lane) then redis.call('ZREM', shares(band, lane), tenant) end
end

-- Of turns before this one nothing need be known any more.
local function pass(band, lane, turn)
  redis.call('ZADD', shares(band, lane), turn, LAST)
  redis.call('ZREMRANGEBYSCORE', shares(band, lane), '-inf', string.format('(%.17g', turn))
end

-- In `fair` turns in the lane are below 0, so that whoever has one stands before those whose turns in the band are to come.
local function called(turn) return -1 / (1 + turn) end
local function turn_of(place) return -1 / place - 1 end

local AT_A_TIME = 16 -- tenants of a lane; those behind them have later turns, and come with its next job

-- Gives turns in the lane to those whose turns in the band have come.
local function call_up(band, lane, now)
  local fair = k_fair(band, lane)
  for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', fair, 0, now, 'LIMIT', 0, AT_A_TIME)) do
    redis.call('ZADD', fair, called(next_turn(band, lane, tenant)), tenant)
  end
end

-- Puts a lane in which somebody waits at the earliest turn in it, and says whose that is.
local function line_up(band, lane, last)
  local first = redis.call('ZRANGE', k_fair(band, lane), 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', k_ready(band), math.max(tonumber(first[2]), last or last_turn(band)), lane) end
  return first[1]
end

-- A tenant that comes into a lane brings it forward where all turns in it are later than its own.
local function take_part(band, lane, tenant)
  local turn = tonumber(redis.call('ZSCORE', k_fair(band, lane), tenant) or nil)
  if not turn then
    turn = next_turn(band, nil, tenant)
    redis.call('ZADD', k_fair(band, lane), turn, tenant)
  end
  if redis.call('ZSCORE', k_blocked(), band .. '|' .. lane) then return end
  redis.call('ZADD', k_ready(band), 'LT', math.max(turn, last_turn(band)), lane)
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
  redis.call('DEL', shares(band, lane))
  return false, false
end

-- A job has left its lane without a start. Where it was its tenant's last there its turns are free.
local function step_back(band, lane, tenant)
  local turn = tonumber(redis.call('ZSCORE', k_fair(band, lane), tenant) or nil)
  if not turn then return end
  local waits, open = settle_lane(band, lane, tenant)
  if waits then return end
  give_back(band, nil, tenant)
  if open and turn < 0 then give_back(band, lane, tenant) end
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
