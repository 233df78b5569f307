#!lua flags=allow-oom
-- The scheduler: gives a worker the next jobs that may start now, or says how long to wait. Promotes what has become
-- due and reaps expired leases on the way. Bands first (with a floor and ageing for the lower ones), then tenants
-- by turns and weight over all lanes that may start a job, then age. A repeated call with the same nonce (its reply was lost) gets the same jobs.
-- KEYS: root
-- ARGV: worker, nonce, want, running, lease_ms, random, result_ttl_s, events_ttl_s, providers (comma-separated)
-- SELDOM: recover, expire, begin_to_wait, route, enqueue
-- Returns: {wait_ms, now_ms, {id, fence, hash as a flat list}, ...}

local worker, nonce, want, running = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease_ms, random = tonumber(ARGV[5]), ARGV[6]
local ttl = {result = ARGV[7], events = ARGV[8]}
local now = time_ms()
local out = {0, int(now)}
local serves = {}
for name in string.gmatch(ARGV[9], '[^,]+') do serves[name] = true end

local before = read(k_claim(worker), {'nonce', 'ids'})
if before.nonce == nonce then
  for id, fence in string.gmatch(before.ids, '(%S+) (%S+)') do
    if redis.call('HGET', k_job(id), 'fence') == fence then
      out[#out + 1] = {id, fence, redis.call('HGETALL', k_job(id))}
    end
  end
  return out
end

promote(now)
reap(now, lease_ms, ttl)
expire_due(now, ttl)

local SCAN = 64 -- lanes read at once; and when so many could not start their jobs, no more are tried for this one
local FAR = 1000 -- lanes of others that a claim passes over in turn; it costs some 0.3 us each

-- A job's hash as the worker gets it, and by name. One read of all of it is cheaper than one of many fields.
local function whole(id)
  local flat, job = redis.call('HGETALL', k_job(id)), {}
  for n = 1, #flat, 2 do job[flat[n]] = flat[n + 1] end
  return flat, job
end

-- The worker gets the job as it was read, and behind that what the claim says of it.
local function claim(id, turn, flat, job)
  local fence = int(turn) .. '-' .. random
  spend_wait(job, now)
  local said = {'state', 'running', 'phase', 'claimed', 'fence', fence, 'worker', worker,
    'claimed_ms', job.claimed_ms or int(now), phases_said(job)}
  redis.call('HSET', k_job(id), unpack(said))
  for _, word in ipairs(said) do flat[#flat + 1] = word end
  redis.call('ZADD', k_leases(), int(now + lease_ms), id)
  redis.call('ZREM', k_deadlines(), id)
  enter_lane(id, job.lane, now, job)
  move(id, job, 'queued', 'running')
  out[#out + 1] = {id, fence, flat}
  return id .. ' ' .. fence
end

local last = {} -- the highest turn of each band from which a job was taken

-- The job that a lane would start next, the oldest of the tenant whose turn it is; whose, and the turns in band and lane.
local function head(band, lane)
  local place = math.max(tonumber(redis.call('ZSCORE', k_ready(band), lane)), last[band] or last_turn(band))
  call_up(band, lane, place)
  local first = redis.call('ZRANGE', k_fair(band, lane), 0, 0, 'WITHSCORES')
  local tenant = first[1]
  if not tenant then return nil end
  return redis.call('ZRANGE', k_wait(band, lane, tenant), 0, 0)[1], tenant, place, turn_of(tonumber(first[2]))
end

local function take(band, lane, tenant, id, place, turn)
  redis.call('ZREM', k_wait(band, lane, tenant), id)
  redis.call('ZREM', k_movable(lane), id)
  last[band] = place
  local waits, open = settle_lane(band, lane, tenant)
  if not open then return end
  pass(band, lane, turn)
  if waits then redis.call('ZADD', k_fair(band, lane), next_turn(band, nil, tenant, place), tenant) end
  line_up(band, lane, place)
end

-- A lane that may not start its next job waits in `blocked` until it may.
local function block(band, lane, till)
  redis.call('ZREM', k_ready(band), lane)
  redis.call('ZADD', k_blocked(), int(till), band .. '|' .. lane)
end

-- Jobs that another model may answer leave a lane that is held back: of those that were not looked at for a second a
-- bounded number, the longest not looked at first. Returns whether there may be more.
local AT_ONCE = 64
local function divert(lane)
  local ids = redis.call('ZRANGEBYSCORE', k_movable(lane), '-inf', int(now - LOOK_AGAIN), 'LIMIT', 0, AT_ONCE)
  for _, id in ipairs(ids) do
    local job = job_of(id)
    local here = job.lane == lane and redis.call('ZSCORE', k_wait(job.band, lane, job.tenant), id)
    if here then route(id, job, now) end
    if here and job.lane == lane then redis.call('ZADD', k_movable(lane), int(now), id)
    else redis.call('ZREM', k_movable(lane), id) end
    if here and job.lane ~= lane then
      redis.call('ZREM', k_wait(job.band, lane, job.tenant), id)
      spend_wait(job, now, lane)
      save_phases(id, job)
      enqueue(id, job)
      step_back(job.band, lane, job.tenant)
    end
  end
  return #ids == AT_ONCE
end

-- A lane that may not start its next job. While jobs of it may move it is looked at each second: one of their other
-- models may have become free.
local function close_lane(band, lane, till)
  if redis.call('EXISTS', k_movable(lane)) == 0 or not held_back(lane, now) then return block(band, lane, till) end
  block(band, lane, math.min(till, now + LOOK_AGAIN))
  if divert(lane) then redis.call('ZADD', k_blocked(), 'XX', int(now), band .. '|' .. lane) end
end

local function from_lane(band, lane)
  local id, tenant, place, turn = head(band, lane)
  if not id then redis.call('ZREM', k_ready(band), lane) return nil end
  local till, phase = closed_until(lane, now, id)
  if till then
    if phase then hold(lane, now, till, phase) end
    close_lane(band, lane, till)
    return nil
  end
  take(band, lane, tenant, id, place, turn)
  return id
end

-- Lanes of providers that this worker does not serve stay in front: it is their turn at workers that do. How many of them a
-- claim has passed over is where it looks for the next job; the others before that place have started one or are blocked.
local passed = {interactive = 0, standard = 0, batch = 0}

local function from_pages(band, till)
  local tried = 0
  repeat
    local lanes = redis.call('ZRANGE', k_ready(band), passed[band], passed[band] + SCAN - 1)
    for _, lane in ipairs(lanes) do
      local served = serves[string.match(lane, '^[^/]+')]
      local id = served and from_lane(band, lane)
      if id then return id end
      if served then tried = tried + 1 else passed[band] = passed[band] + 1 end
    end
  until #lanes < SCAN or tried >= SCAN or passed[band] >= till
  return nil
end

-- Behind the first FAR lanes a claim goes on, once, from a place left to chance: what it does has a bound, and no lane is
-- out of sight for ever.
local leapt = {}
local function from_band(band)
  local id = from_pages(band, FAR)
  if id or passed[band] < FAR or leapt[band] then return id end
  leapt[band] = true
  local places = math.ceil(redis.call('ZCARD', k_ready(band)) / FAR) - 1
  if places > 1 then passed[band] = FAR * (1 + tonumber(string.sub(random, 1, 4), 16) % places) end
  return from_pages(band, passed[band] + FAR)
end

-- Whether the oldest job of the lane whose turn it is has waited longer than its band may.
local AGED = {standard = 60000, batch = 600000}
local function aged(band)
  local lane = redis.call('ZRANGE', k_ready(band), 0, 0)[1]
  local tenant = lane and redis.call('ZRANGE', k_fair(band, lane), 0, 0)[1]
  local since = tenant and redis.call('ZRANGE', k_wait(band, lane, tenant), 0, 0, 'WITHSCORES')[2]
  return since and now - tonumber(since) > AGED[band]
end

-- Every 4th turn begins with standard and every 16th with batch, so that neither starves; and every 8th with what has
-- grown old in one of them.
local function order(turn)
  if turn % 8 == 2 and aged('batch') then return {'batch', 'interactive', 'standard'} end
  if turn % 8 == 2 and aged('standard') then return {'standard', 'interactive', 'batch'} end
  if turn % 16 == 0 then return {'batch', 'interactive', 'standard'} end
  if turn % 4 == 0 then return {'standard', 'interactive', 'batch'} end
  return {'interactive', 'standard', 'batch'}
end

-- Cancelled jobs whose calls go on at providers of this worker. Neither limits nor pauses hold them up; a provider that is
-- down would not hear of them, and they wait until it is tried again. Those that can't be stopped here now go behind the
-- others where more wait than one claim looks at, so that they hide none.
local function to_stop()
  local ids, behind, looked = {}, {}, redis.call('ZRANGE', k_stops(), 0, SCAN - 1)
  for _, id in ipairs(looked) do
    local job = read(k_job(id), {'state', 'provider', 'lane'})
    if job.state ~= 'queued' then redis.call('ZREM', k_stops(), id)
    elseif not serves[job.provider] or is_down(job.lane, now) then behind[#behind + 1], behind[#behind + 2] = int(now), id
    elseif #ids < want then ids[#ids + 1] = id end
  end
  if #looked == SCAN and behind[1] then redis.call('ZADD', k_stops(), unpack(behind)) end
  return ids
end

local paused = read(k_turns(), {'paused:interactive', 'paused:standard', 'paused:batch'})

local function pick(turn)
  for _, band in ipairs(order(turn)) do
    local id = not paused['paused:' .. band] and from_band(band)
    if id then return id end
  end
  return nil
end

-- The oldest of the jobs whose workers died twice that may start here now. One that may not holds up none behind it: where
-- more wait than one claim looks at they go behind the others.
local LOOKED = 16
local function oldest_suspect()
  local behind, looked = {}, redis.call('ZRANGE', k_suspects(), 0, LOOKED - 1)
  for _, id in ipairs(looked) do
    local job = job_of(id)
    if job.state ~= 'queued' then redis.call('ZREM', k_suspects(), id)
    else
      route(id, job, now)
      local open = not paused['paused:' .. job.band] and not closed_until(job.lane, now, id)
      if (open or job.cancel and not is_down(job.lane, now)) and serves[job.provider] then return id end
      behind[#behind + 1], behind[#behind + 2] = int(now), id
    end
  end
  if #looked == LOOKED and behind[1] then redis.call('ZADD', k_suspects(), unpack(behind)) end
  return nil
end

-- It runs alone: one worker at a time stops claiming until it is empty, and takes it.
local function suspect()
  local id = oldest_suspect()
  if not id then return nil end
  if not redis.call('SET', k_quarantine(), worker, 'NX', 'PX', 10000)
    and redis.call('GET', k_quarantine()) ~= worker then return nil end
  return id
end

local taken, tries = {}, 0
for _, id in ipairs(to_stop()) do
  redis.call('ZREM', k_stops(), id)
  taken[#taken + 1] = claim(id, redis.call('HINCRBY', k_turns(), 'n', 1), whole(id))
end
local alone = suspect()
if alone and running + #taken > 0 then
  redis.call('PEXPIRE', k_quarantine(), 10000)
  out[1] = 100
elseif alone then
  redis.call('ZREM', k_suspects(), alone)
  redis.call('DEL', k_quarantine())
  taken[1] = claim(alone, redis.call('HINCRBY', k_turns(), 'n', 1), whole(alone))
end
while not alone and #taken < want and tries < want + 32 do
  tries = tries + 1
  local turn = redis.call('HINCRBY', k_turns(), 'n', 1)
  local id = pick(turn)
  if not id then break end
  local flat, job = whole(id)
  if job.state == 'queued' and now >= start_by(job) then by_itself(k_deadlines(), id, now, expire, id, job, now, ttl)
  elseif job.state == 'queued' then taken[#taken + 1] = claim(id, turn, flat, job) end
end
for band, turn in pairs(last) do pass(band, nil, turn) end

if #taken > 0 then
  redis.call('HSET', k_claim(worker), 'nonce', nonce, 'ids', table.concat(taken, ' '))
  redis.call('EXPIRE', k_claim(worker), 60)
end
if #taken > 0 or alone then return out end

-- Nothing to do: wake when the earliest delayed job, blocked lane, deadline or lease comes up.
local wait = 5000
for _, key in ipairs({k_due(), k_blocked(), k_deadlines(), k_leases()}) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first then wait = math.min(wait, math.max(1, tonumber(first) - now)) end
end
out[1] = math.floor(wait)
return out
