-- Budgets (G7): what a job's next call may cost is held in each budget that the job falls under, from its admission or
-- from `dispatch` on, until what the call did cost is booked; a job that ends without a call gives it back. Each budget
-- has an account a period, and a call is settled in the period in which it was reserved.
--
-- `job.budgets` are lines that the API wrote (`line_around` in store/budgets.py), `job.holds` says which of them hold the
-- job's money now: `<line>:<start of the period>`, with a space between.

local LINE = '^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),(.*)$'
local SPEND_TTL, ALERT_TTL = 90 * 86400, 7 * 86400

-- A job's budgets. `amount` nil: nobody knows what a call may cost at most. `rev` '-': the file's.
local function budgets_of(job)
  local out = {}
  for text in string.gmatch(job.budgets or '', '[^\n]+') do
    local b = {}
    b.account, b.period, b.zone, b.mode, b.limit, b.rev, b.amount, b.alerts, b.starts, b.model = string.match(text, LINE)
    b.limit, b.amount = tonumber(b.limit), tonumber(b.amount)
    out[#out + 1] = b
  end
  return out
end

local function spend_key(b, job, start)
  local simulated = job.simulated or '0'
  if b.period == 'total' then return k_spend_total(b.account, simulated) end
  return k_spend(b.account, simulated, b.period .. start)
end

local function keep_spend(b, key)
  if b.period ~= 'total' then redis.call('EXPIRE', key, SPEND_TTL) end
end

-- The present period: its start, and when the next one begins (nil: never). As `present` in store/periods.py.
local function period_of(starts, now)
  local found, renews = nil, nil
  for start in string.gmatch(starts, '%d+') do
    if not found or tonumber(start) <= now then found = start
    elseif not renews then renews = start end
  end
  return found, renews
end

-- Takes over what a budget's definition says now; false when it was taken away.
local function refresh(b)
  local rev, mode, limit, account = string.match(redis.call('HGET', k_budgets(), string.match(b.account, '^[^.]+')) or '',
    '^(%S+) (%S+) (%S+) (%S+) ')
  if account == b.account then b.mode, b.limit, b.now_rev = mode, tonumber(limit), rev
  elseif b.rev ~= '-' then return false end
  return true
end

-- Somebody is told of a budget once a period for each `what`: a share of its limit, or 'refused'.
local function alert(b, key, job, start, now, what, spent)
  if redis.call('HSETNX', key, 'told:' .. what, int(now)) == 0 then return end
  local id = b.account .. ':' .. b.period .. start .. ':' .. (job.simulated or '0') .. ':' .. what
  redis.call('HSET', k_alert(id), 'what', what, 'spent', int(spent), 'limit', int(b.limit), 'period_start', start,
    'simulated', job.simulated or '0', 'at', int(now))
  redis.call('EXPIRE', k_alert(id), ALERT_TTL)
  redis.call('ZADD', k_alerts(), int(now), id)
end

-- Why a call that costs up to the amount does not fit now, in the words of its answer; nil when it does.
local function lacks(b, job, now, starts)
  local start, renews = period_of(starts, now)
  b.start, b.key = start, spend_key(b, job, start)
  if b.mode ~= 'hard' then return nil end
  if not b.amount then return {word = 'unbounded', account = b.account} end
  local use = read(b.key, {'spent', 'reserved', 'unsure'})
  local gone = (tonumber(use.spent) or 0) + (tonumber(use.unsure) or 0)
  local left = b.limit - gone - (tonumber(use.reserved) or 0)
  if b.amount <= left then return nil end
  alert(b, b.key, job, start, now, 'refused', tonumber(use.spent) or 0)
  keep_spend(b, b.key)
  return {word = 'over_budget', account = b.account, left = left, needed = b.amount, renews = renews,
    limit = b.limit, others = b.amount <= b.limit - gone}
end

-- Holds a job's money in all of its budgets, or in none: then it says why. `starts` are of the periods, a line a
-- budget; where the API has just said them, they are in the job.
local function reserve(id, job, now, starts)
  local lines, held, most = {}, {}, 0
  job.holding = held -- for `undo` in admit.lua, should this stop half way
  for text in string.gmatch(starts or '', '[^\n]+') do lines[#lines + 1] = text end
  local budgets = budgets_of(job)
  for n, b in ipairs(budgets) do
    local known = (starts or b.rev ~= '-') and refresh(b)
    if not starts and b.rev ~= '-' and (not known or b.now_rev ~= b.rev) then return {word = 'stale', account = b.account} end
    b.gone = starts and not known
    local why = not b.gone and lacks(b, job, now, lines[n] or b.starts)
    if why then
      if not starts and why.word == 'over_budget' then redis.call('HINCRBY', b.key, 'refused', 1) end
      return why
    end
  end
  for n, b in ipairs(budgets) do
    if not b.gone then
      redis.call('HINCRBY', b.key, 'reserved', int(b.amount or 0))
      held[#held + 1], most = n .. ':' .. b.start, math.max(most, b.amount or 0)
      redis.call('HSETNX', b.key, 'since', int(now))
      keep_spend(b, b.key)
    end
  end
  job.holds, job.reserved = table.concat(held, ' '), int(most)
  redis.call('HSET', k_job(id), 'holds', job.holds, 'reserved', job.reserved)
  return nil
end

-- The same as a flat list of names and values.
local function refusal_of(short)
  local flat = {'account', short.account}
  for _, name in ipairs({'left', 'needed', 'limit'}) do
    if short[name] then flat[#flat + 1] = name; flat[#flat + 1] = int(short[name]) end
  end
  if short.renews then flat[#flat + 1] = 'renews'; flat[#flat + 1] = short.renews end
  return flat
end

-- What becomes of a job whose further call does not fit: it waits for the jobs that hold the rest, looking again after
-- 2 s, then twice as long each time up to a minute; or until the budget renews; where neither can help, it fails.
local function no_room(job, now, short, answer)
  local renews, out = tonumber(short.renews), nil
  local at = now + math.min(60000, 2000 * 2 ^ math.min(6, tonumber(job.budget_waits) or 0))
  if not short.others then at = renews elseif renews then at = math.min(at, renews) end
  local waits = short.word == 'over_budget' and at and at < tonumber(job.deadline_ms)
  out = answer(waits and 'budget_wait' or 'budget')
  out[6] = refusal_of(short)
  if waits then out[6][#out[6] + 1] = 'at'; out[6][#out[6] + 1] = int(at) end
  return out
end

local function covers(b, model)
  if b.model == '' or b.model == model then return true end
  return string.sub(b.model, -2) == '/*' and string.sub(model, 1, #b.model - 1) == string.sub(b.model, 1, -2)
end

-- What a call did cost takes the place of what was held for it. Nobody reported it (`estimated`): what it may have cost
-- above that stays out of a hard budget's room; without a price all of it does.
local function settle(b, key, job, now, start, t)
  local amount = b.amount or 0
  if not t.spent then redis.call('HINCRBY', key, 'unpriced', 1)
  elseif t.spent > 0 then
    local spent = redis.call('HINCRBY', key, 'spent', int(t.spent))
    for share in string.gmatch(b.alerts, '[^;]+') do
      if spent >= tonumber(share) * b.limit then alert(b, key, job, start, now, share, spent) end
    end
  end
  local unsure = (t.estimated == 1 or not t.spent) and math.max(0, amount - (t.spent or 0)) or 0
  if unsure > 0 and b.mode == 'hard' then redis.call('HINCRBY', key, 'unsure', int(unsure)) end
end

-- Gives back what is held for a job that has `holds`; `t` is what its call came to, nil when there was none.
local function let_go(id, job, now, t)
  local budgets = budgets_of(job)
  for n, start in string.gmatch(job.holds, '(%d+):(%d+)') do
    local b = budgets[tonumber(n)]
    local key = spend_key(b, job, start)
    if redis.call('EXISTS', key) == 1 then -- else the budget was taken away
      redis.call('HINCRBY', key, 'reserved', int(-(b.amount or 0)))
      refresh(b)
      if t and covers(b, job.model) then settle(b, key, job, now, start, t) end
      keep_spend(b, key)
    end
  end
  redis.call('HDEL', k_job(id), 'holds', 'reserved')
  job.holds, job.reserved = nil, nil
end

-- A call that was settled as `before` by estimate has cost `more`, in the periods of its `holds`; `sure`: and no more than
-- that. What it was feared to cost is let go of as far as it is known now.
local function amend_budgets(job, holds, now, before, more, sure)
  local budgets = budgets_of(job)
  for n, start in string.gmatch(holds or '', '(%d+):(%d+)') do
    local b = budgets[tonumber(n)]
    local key = spend_key(b, job, start)
    if redis.call('EXISTS', key) == 1 and covers(b, job.model) then
      refresh(b)
      settle(b, key, job, now, start, {spent = more, estimated = 0})
      local feared = math.max(0, (b.amount or 0) - before)
      if not sure then feared = math.min(feared, more) end
      feared = math.min(feared, tonumber(redis.call('HGET', key, 'unsure')) or 0)
      if feared > 0 then redis.call('HINCRBY', key, 'unsure', int(-feared)) end
      keep_spend(b, key)
    end
  end
end
