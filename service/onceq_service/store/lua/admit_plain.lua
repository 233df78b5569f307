#!lua
-- Admits new jobs of one kind, that ask for no budget, no other model, no batch, no time of their own: most posts.
-- Why beside admit.lua: Redis builds each function of a script anew at each run, and with that script's hundred a post
-- takes half as long again, alone or in a batch (benchmarks/README.md). What it makes is what admit.lua makes; the tests
-- hold the two to each other.
-- It refuses and joins nothing: what it knows an id, key or question of is left to admit.lua, and so is everything
-- where a step fails; nothing of that is left behind.
-- KEYS: root
-- ARGV: idem_ttl_s, tenant, lane, limits, deadline_ms, shared, (name, value)..., (size, id, idem, body, fp, accept_ms, fields...)...
-- `shared` is how many values follow that all jobs have in their hashes, `size` those of one request.
-- Returns, for each, when it was created (ms); '' where it is left to admit.lua.

local now = time_ms()
local tenant, lane, limits, deadline_ms = unpack(ARGV, 2, 5)
local first = 7 + ARGV[6]
local deadline, idem_px = int(now + deadline_ms), int(deadline_ms + ARGV[1] * 1000)
local kind = {tenant = tenant}
for n = 7, first - 1, 2 do kind[ARGV[n]] = ARGV[n + 1] end
local out, ids = {}, {}
local by_age, by_deadline = {}, {} -- score, job id, ... of those whose log has begun

local function write_jobs()
  local hash = {'state', 'queued', 'seq', '1', 'tenant', tenant, 'mark_ms', int(now), 'held', held_at(lane, now),
    'deadline_ms', deadline, 'calls', '0', 'call', '0', 'tries', '0', unpack(ARGV, 7, first - 1)}
  local shared, at, till = #hash, first, #ARGV
  while at < till do
    local last = at + ARGV[at]
    local id, idem, body_hash, fp, accept_ms = unpack(ARGV, at + 1, at + 5)
    if redis.call('EXISTS', k_job(id), k_idem(idem), k_fp(fp)) > 0 then out[#out + 1] = ''
    else
      local created = int(now - accept_ms)
      out[#out + 1], ids[#ids + 1] = created, id
      if idem ~= '' then redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px) end
      if fp ~= '' then redis.call('SET', k_fp(fp), id, 'PX', idem_px) end
      hash[shared + 1], hash[shared + 2], hash[shared + 3], hash[shared + 4] = 'created_ms', created, 'phases', accept_ms
      for n = at + 6, last do hash[shared + n - at - 1] = ARGV[n] end
      redis.call('HSET', k_job(id), unpack(hash, 1, shared + last - at - 1))
      log_unheard(id, 'queued')
      local n = #by_age
      by_age[n + 1], by_age[n + 2], by_deadline[n + 1], by_deadline[n + 2] = created, id, deadline, id
    end
    at = last + 1
  end
end

-- Their places, turn, and share of the sums.
local function place()
  redis.call('ZADD', k_index(tenant, 'queued'), unpack(by_age))
  redis.call('ZADD', k_deadlines(), unpack(by_deadline))
  redis.call('ZADD', k_queued(kind.band), unpack(by_age))
  redis.call('ZADD', k_wait(kind.band, lane, tenant), unpack(by_age))
  take_part(kind.band, lane, tenant)
  wake(lane, #ids)
  roll(now, kind, {'jobs', #ids})
end

local done = pcall(function()
  configure_lane(lane, limits)
  write_jobs()
  if ids[1] then place() end
end)
if done then return out end

if ids[1] then
  for _, key in ipairs({k_index(tenant, 'queued'), k_deadlines(), k_queued(kind.band), k_wait(kind.band, lane, tenant)}) do
    redis.pcall('ZREM', key, unpack(ids))
  end
end
local at, undone, left = first, 0, {}
while at < #ARGV do
  local id, idem, _, fp = unpack(ARGV, at + 1, at + 4)
  if id == ids[undone + 1] then
    undone = undone + 1
    redis.call('DEL', k_job(id), k_idem(idem), k_fp(fp))
    if by_age[2 * undone] then redis.call('DEL', k_events(id)) end
  end
  left[#left + 1] = ''
  at = at + ARGV[at] + 1
end
pcall(step_back, kind.band, lane, tenant)
return left
