-- Ledger rows and rollups; what a lost call is taken to have cost.

local HOUR_TTL, DAY_TTL = 35 * 86400, 400 * 86400
local LEDGER_ROWS, LEDGER_TTL = 500000, 400 * 86400 -- of each tenant: a busy one pushes out nobody else's rows

-- Adds a row to its tenant's ledger, which leaves again by number or age; returns its id, which begins with the time.
local function keep_row(row, now)
  local flat = {}
  for name, value in pairs(row) do flat[#flat + 1] = name; flat[#flat + 1] = value end
  local key = k_ledger(row.tenant)
  local id = redis.pcall('XADD', key, 'MAXLEN', '~', LEDGER_ROWS, row.at .. '-*', unpack(flat))
  if type(id) == 'table' then id = redis.call('XADD', key, '*', unpack(flat)) end -- the clock went back
  redis.call('XTRIM', key, 'MINID', '~', int(math.max(0, now - LEDGER_TTL * 1000)))
  redis.call('EXPIRE', key, LEDGER_TTL)
  return id
end

-- By what sums are told apart, as JSON.
local function dims_of(job)
  return cjson.encode({
    job.team or '', job.model, job.band, job.simulated or '0', job.key_id or '', job.group or '',
  })
end

-- Teams, keys, labels and models are of a client's choosing: what comes after so many groups of an hour or a day is summed
-- up in one more, so that they can be read.
local MOST_GROUPS = 1000
local function all_others(job)
  return dims_of({team = '(other)', model = '(other)', band = job.band, simulated = job.simulated, key_id = '(other)'})
end

local function roll_into(span, bucket, ttl, job, dims, sums)
  local index = k_rolls(span, bucket, job.tenant)
  local new = redis.call('SADD', index, dims) == 1
  if new and redis.call('SCARD', index) > MOST_GROUPS then
    redis.call('SREM', index, dims)
    dims = all_others(job)
    new = redis.call('SADD', index, dims) == 1
  end
  local key = k_roll(span, bucket, job.tenant, dims)
  for n = 1, #sums, 2 do
    if sums[n + 1] ~= 0 then redis.call('HINCRBY', key, sums[n], int(sums[n + 1])) end
  end
  if new then
    redis.call('EXPIRE', index, ttl)
    redis.call('EXPIRE', key, ttl)
  end
end

-- Adds the same to the counters of the whole queue, which never go down: what /metrics shows.
local function tally(job, sums)
  local series = string.match(job.model, '^[^/]+') .. '|' .. job.band .. '|' .. (job.simulated or '0') .. '|'
  for n = 1, #sums, 2 do
    if sums[n + 1] > 0 then redis.call('HINCRBY', k_counters(), series .. sums[n], int(sums[n + 1])) end
  end
end

-- Adds {name, number, name, number, ...} to the hour and the day of `now`. At least one number is not 0.
local function roll(now, job, sums)
  local dims = dims_of(job)
  roll_into('h', int(math.floor(now / 3600000)), HOUR_TTL, job, dims, sums)
  roll_into('d', int(math.floor(now / 86400000)), DAY_TTL, job, dims, sums)
  tally(job, sums)
end

-- What the answer of a job cost, that nobody has to pay who asks the same: nil while a call of it is unpriced.
local function answer_cost(job)
  if (tonumber(job.unpriced) or 0) > 0 then return nil end
  return (tonumber(job.spent) or 0) - (tonumber(job.wasted) or 0)
end

-- A histogram's bucket for a number of milliseconds, or of micro-USD: a quarter of an octave wide, 0..95.
local function bucket(number)
  return math.min(95, math.max(0, math.floor(4 * math.log(math.max(number, 0) + 1) / math.log(2))))
end

-- Books one try (an estimate never above what its call can cost at most): its ledger row, the job's sums, the rollups. `t` has outcome, billed, estimated (0 or 1), input,
-- output, cached, cache_write (or nil), reasoning, spent (nano-USD, or nil when unpriced), kept (1 when its output is
-- the answer), reason. A try is booked once, also where what came behind that has failed and is done again.
local function book(id, job, now, t)
  local name = 'row:' .. (job.tries or '0')
  if redis.call('HEXISTS', k_job(id), name) == 1 then return end
  local priced = t.spent ~= nil or t.billed == 0
  if t.spent and t.estimated == 1 and job.call_bound then t.spent = math.min(t.spent, tonumber(job.call_bound)) end
  local spent = t.spent or 0
  local wasted = (t.billed == 1 and t.kept ~= 1) and spent or 0
  local reserved, holds = job.reserved or '0', t.estimated == 1 and job.holds or nil
  if t.billed == 1 and job.holds then let_go(id, job, now, {spent = t.spent, estimated = t.estimated}) end -- may fail
  local row = {
    at = int(now), job = id, tenant = job.tenant, key_id = job.key_id or '', team = job.team or '',
    user = job.user or '', labels = job.labels or '{}', model = job.model, provider = job.provider, lane = job.lane,
    band = job.band, try_no = job.tries or '0', call = job.call or '0', outcome = t.outcome,
    billed = int(t.billed), estimated = int(t.estimated), input = int(t.input), output = int(t.output),
    cached = int(t.cached), cache_write = int(t.cache_write or 0), reasoning = int(t.reasoning), spent = priced and int(spent) or '',
    wasted = int(wasted), reason = (t.billed == 1 and t.kept ~= 1) and t.reason or '', reserved = reserved,
    price_version = job.price_version or '', simulated = job.simulated or '0',
  }
  row.id = keep_row(row, now)
  row.holds = holds -- for what may be found out later, by amend.lua
  redis.call('HSET', k_job(id), name, cjson.encode(row))
  if t.billed == 1 then job.used_in, job.used_out = t.input, t.output end
  job.spent = (tonumber(job.spent) or 0) + spent
  job.wasted = (tonumber(job.wasted) or 0) + wasted
  job.unpriced = (tonumber(job.unpriced) or 0) + (priced and 0 or 1)
  redis.call('HSET', k_job(id), 'spent', int(job.spent), 'wasted', int(job.wasted), 'unpriced', int(job.unpriced))
  if t.billed == 1 and t.estimated == 1 and job.call_bound then
    job.unsure = (tonumber(job.unsure) or 0) + math.max(0, tonumber(job.call_bound) - spent)
    redis.call('HSET', k_job(id), 'unsure', int(job.unsure))
  end
  roll(now, job, {'tries', 1, 'calls', t.billed, 'in', t.billed * t.input, 'out', t.billed * t.output,
    'cached', t.billed * t.cached, 'reasoning', t.billed * t.reasoning, 'spent', spent, 'wasted', wasted,
    'unpriced', priced and 0 or 1, 'cwrite', t.billed * (t.cache_write or 0), 'w:' .. row.reason, wasted,
    'est', t.estimated * spent})
end

-- Whether another call could make a job cost more than it may. A call whose usage nobody reported counts with all that
-- it may have cost; without a bound, or after a call without a price, there is no telling.
local function over_max_cost(job)
  if not job.max_cost then return false end
  local bound = tonumber(job.call_bound)
  if not bound or (tonumber(job.unpriced) or 0) > 0 then return true end
  return (tonumber(job.spent) or 0) + (tonumber(job.unsure) or 0) + bound > tonumber(job.max_cost)
end

-- What a call is taken to have cost when nobody can ask any more: bytes / 3 is our estimate of tokens.
local function estimate(job)
  local input = math.ceil((tonumber(job.in_bytes) or 0) / 3)
  local output = math.ceil((tonumber(job.out_bytes) or 0) / 3)
  local spent = nil
  if job.price_in and job.price_in ~= '' then -- nano-USD for a million tokens
    spent = math.floor((input * tonumber(job.price_in) + output * tonumber(job.price_out)) / 1000000 + 0.5)
  end
  return {billed = 1, estimated = 1, input = input, output = output, cached = 0, reasoning = 0, spent = spent, kept = 0}
end
