-- Lanes: provider + account + model, the thing that has a rate limit. A lane with limits counts what runs and what
-- was started in the last minute, by the second, for all workers together. Estimates are counted when a job is
-- claimed and corrected when it ends.

local WINDOW = 61 -- seconds: a minute after the last moment of the second that leaves, so no 60 s see more than the limit

-- Limits as admit wrote them: requests, input tokens and output tokens a minute, concurrency; 0 = none.
local function limits_of(text)
  local rpm, itpm, otpm, most = string.match(text or '', '^(%d+),(%d+),(%d+),(%d+)$')
  if not rpm then return nil end
  return {rpm = tonumber(rpm), itpm = tonumber(itpm), otpm = tonumber(otpm), most = tonumber(most)}
end

-- The limits that hold: the configuration's, and where it sets none the provider's own, as its answers told them.
local function limits_in_force(configured, learned)
  local own, told = limits_of(configured), limits_of(learned)
  if not own or not told then return own or told end
  for axis, n in pairs(told) do
    if own[axis] == 0 then own[axis] = n end
  end
  return own
end

-- Writes down what the configuration says of a lane; '' takes its limits away.
local function configure_lane(lane, limits)
  if (redis.call('HGET', k_lane(lane), 'limits') or '') ~= limits then
    if limits == '' then redis.call('HDEL', k_lane(lane), 'limits')
    else redis.call('HSET', k_lane(lane), 'limits', limits) end
  end
  redis.call('EXPIRE', k_lane(lane), LANE_TTL) -- what is known of a lane, a pause too, lives as long as its jobs
end

-- Drops the seconds that have left the window; returns the sums over what is left and its oldest second.
local function window(lane, sec)
  local key = k_window(lane)
  local w = read(key, {'oldest', 'newest', 'r', 'i', 'o'})
  if not w.newest or tonumber(w.newest) <= sec - WINDOW then
    redis.call('DEL', key)
    return {r = 0, i = 0, o = 0, oldest = sec}
  end
  local sums = {r = tonumber(w.r), i = tonumber(w.i), o = tonumber(w.o), oldest = tonumber(w.oldest)}
  while sums.oldest <= sec - WINDOW do -- at most WINDOW turns: the newest second is inside
    local s = int(sums.oldest)
    local old = redis.call('HMGET', key, 'r' .. s, 'i' .. s, 'o' .. s)
    if old[1] then
      sums.r, sums.i, sums.o = sums.r - old[1], sums.i - old[2], sums.o - old[3]
      redis.call('HDEL', key, 'r' .. s, 'i' .. s, 'o' .. s)
    end
    sums.oldest = sums.oldest + 1
  end
  redis.call('HSET', key, 'r', int(sums.r), 'i', int(sums.i), 'o', int(sums.o), 'oldest', int(sums.oldest))
  return sums
end

local function count(lane, sec, r, i, o)
  local key, s = k_window(lane), int(sec)
  for name, by in pairs({r = r, i = i, o = o}) do
    redis.call('HINCRBY', key, name .. s, int(by))
    redis.call('HINCRBY', key, name, int(by))
  end
  redis.call('HSETNX', key, 'oldest', s)
  redis.call('HSET', key, 'newest', s)
  redis.call('EXPIRE', key, WINDOW * 2)
end

-- The first second (ms) at which enough of the window will have passed for `need` more of `axis` to fit.
local function room_at(lane, sums, axis, sec, need, limit)
  local left, s = sums[axis], sums.oldest
  while s <= sec do
    left = left - (tonumber(redis.call('HGET', k_window(lane), axis .. int(s))) or 0)
    if left + need <= limit then return (s + WINDOW) * 1000 end
    s = s + 1
  end
  return (sec + WINDOW) * 1000
end

-- Until when (ms) the lane may not start this job, nil when it may now. More than a minute's worth of tokens
-- starts alone: a limit below one job would otherwise hold it for ever. The second value is the phase of the wait when
-- it is the provider that holds the lane (a brake is on record with `hold` already).
local function closed_until(lane, now, id)
  local l = read(k_lane(lane), {'brake_ms', 'paused', 'limits', 'learned', 'running', 'probe'})
  if l.paused then return 1e15 end
  if l.brake_ms and tonumber(l.brake_ms) > now then return tonumber(l.brake_ms) end
  if l.probe and tonumber(l.probe) > now then return tonumber(l.probe), 'backoff' end -- half open: one job tries it
  local limits = limits_in_force(l.limits, l.learned)
  if not limits then return nil end
  if limits.most > 0 and (tonumber(l.running) or 0) >= limits.most then return 1e15 end
  if limits.rpm + limits.itpm + limits.otpm == 0 then return nil end
  local sec = math.floor(now / 1000)
  local sums, till, why = window(lane, sec), nil, nil
  local own, job = limits_of(l.limits) or {rpm = 0, itpm = 0, otpm = 0}, read(k_job(id), {'in_est', 'out_est'})
  local needs = {r = {1, limits.rpm, own.rpm}, i = {tonumber(job.in_est) or 0, limits.itpm, own.itpm},
    o = {tonumber(job.out_est) or 0, limits.otpm, own.otpm}}
  for axis, need in pairs(needs) do
    if need[2] > 0 and sums[axis] > 0 and sums[axis] + need[1] > need[2] then
      local room = room_at(lane, sums, axis, sec, need[1], need[2])
      if room > (till or 0) then till, why = room, need[3] == 0 and 'limiter' or nil end
    end
  end
  return till, why
end

-- Counts a job that starts in a lane with limits; the job remembers, so that leaving takes away what was added. A
-- cancelled one asks the provider for nothing: it counts for no limit and tells nothing on a trial.
local function enter_lane(id, lane, now, job)
  local l = read(k_lane(lane), {'limits', 'learned', 'half'})
  if redis.call('ZADD', k_lanes(), int(now), lane) == 1 then redis.call('ZREMRANGEBYRANK', k_lanes(), 0, -1001) end
  if job.cancel then return end
  if l.half then redis.call('HSET', k_lane(lane), 'probe', int(now + 60000), 'prober', id) end
  if not l.limits and not l.learned then return end
  local sec = math.floor(now / 1000)
  redis.call('HINCRBY', k_lane(lane), 'running', 1)
  redis.call('HSET', k_job(id), 'lane_sec', int(sec))
  count(lane, sec, 1, tonumber(job.in_est) or 0, tonumber(job.out_est) or 0)
end

-- Lets waiting jobs of a lane be looked at again, whatever it was blocked for.
local function reopen(lane)
  for _, band in ipairs({'interactive', 'standard', 'batch'}) do
    if redis.call('ZREM', k_blocked(), band .. '|' .. lane) == 1 and line_up(band, lane) then wake(lane) end
  end
end

-- The opposite of enter_lane, when a job stops running: the slot is free, tokens are corrected by what was used.
local function leave_lane(id, job)
  if redis.call('HGET', k_lane(job.lane), 'prober') == id then -- also when its end said nothing of the provider
    redis.call('HDEL', k_lane(job.lane), 'probe', 'prober')
    reopen(job.lane)
  end
  local sec = redis.call('HGET', k_job(id), 'lane_sec')
  if not sec then return end
  redis.call('HDEL', k_job(id), 'lane_sec')
  if redis.call('HINCRBY', k_lane(job.lane), 'running', -1) < 0 then redis.call('HSET', k_lane(job.lane), 'running', 0) end
  if job.used_in and redis.call('HEXISTS', k_window(job.lane), 'i' .. sec) == 1 then
    local over_in = job.used_in - (tonumber(job.in_est) or 0)
    local over_out = job.used_out - (tonumber(job.out_est) or 0)
    for name, by in pairs({i = over_in, o = over_out}) do
      redis.call('HINCRBY', k_window(job.lane), name .. sec, int(by))
      redis.call('HINCRBY', k_window(job.lane), name, int(by))
    end
  end
  reopen(job.lane)
end

-- Holds the lane back for all workers until `till` (ms); a later brake already there stays. Waiting jobs that another
-- model may answer leave it, for whatever else it was blocked.
local function brake(lane, now, till, reason)
  if till > tonumber(redis.call('HGET', k_lane(lane), 'brake_ms') or 0) then
    redis.call('HSET', k_lane(lane), 'brake_ms', int(till), 'reason', reason)
    hold(lane, now, till, reason == 'provider_rate_limited' and 'limiter' or 'backoff')
    redis.call('EXPIRE', k_lane(lane), LANE_TTL)
    reopen(lane)
  end
end

-- The breaker: five failures of the provider in a row open it, for 2 s, then twice as long each time up to a minute;
-- then one job may try (half open), and its outcome closes the breaker or opens it again. Failures of calls that had
-- begun before it opened say nothing new: a burst of them opens it once.
local TRIPS = {provider_error = true, provider_unreachable = true, provider_timeout = true, provider_overloaded = true}

-- Whether the breaker is open.
local function is_down(lane, now)
  local l = read(k_lane(lane), {'brake_ms', 'reason'})
  return TRIPS[l.reason] ~= nil and (tonumber(l.brake_ms) or 0) > now
end

local function note_failure(lane, now, reason)
  if not TRIPS[reason] then return end
  local fails = redis.call('HINCRBY', k_lane(lane), 'fails', 1)
  redis.call('EXPIRE', k_lane(lane), LANE_TTL)
  redis.call('HDEL', k_lane(lane), 'probe')
  if fails < 5 or (tonumber(redis.call('HGET', k_lane(lane), 'brake_ms')) or 0) > now then return end
  local opened = redis.call('HINCRBY', k_lane(lane), 'opened', 1)
  redis.call('HSET', k_lane(lane), 'half', '1')
  brake(lane, now, now + math.min(60000, 2000 * 2 ^ math.min(10, opened - 1)), reason)
end

-- How fast the lane goes: what a new job's expected start is reckoned from.
local function note_ended(lane, now)
  local key = k_pace(lane, int(math.floor(now / 60000)))
  if redis.call('INCR', key) == 1 then redis.call('EXPIRE', key, 180) end
end

local function note_success(lane, now)
  if redis.call('HEXISTS', k_lane(lane), 'fails') == 0 then return end
  redis.call('HDEL', k_lane(lane), 'fails', 'opened', 'half', 'probe')
  if TRIPS[redis.call('HGET', k_lane(lane), 'reason')] then -- a rate limit's brake stays
    redis.call('HDEL', k_lane(lane), 'brake_ms', 'reason')
    unhold(lane, now, 'backoff')
    reopen(lane)
  end
end

-- Somebody says that a lane goes on: what was known against it counts no more, until the provider says it again.
local function lift(lane, now)
  redis.call('HDEL', k_lane(lane), 'paused', 'brake_ms', 'reason', 'fails', 'opened', 'half', 'probe', 'prober')
  unhold(lane, now, 'limiter')
  unhold(lane, now, 'backoff')
end
