-- What all scripts share: time, numbers, reading a hash. The files that begin with _ are put before each script, after
-- the key builders of keys.py. Nothing in them decides; the scripts do. User payloads never pass through cjson.

local function time_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- As Redis takes it; `+ 0`, since it does not know the number -0.
local function int(n) return string.format('%.0f', n + 0) end

local function shard(id) return tonumber(string.sub(id, -2), 16) % 64 end

-- Reads fields of a hash into a table by name.
local function read(key, fields)
  local values = redis.call('HMGET', key, unpack(fields))
  local out = {}
  for n, name in ipairs(fields) do out[name] = values[n] or nil end
  return out
end

local JOB = {'state', 'phase', 'fence', 'seq', 'tenant', 'team', 'model', 'provider', 'lane', 'band', 'simulated',
  'created_ms', 'ready_ms', 'claimed_ms', 'started_ms', 'first_ms', 'sent_ms', 'deadline_ms', 'calls', 'call', 'tries',
  'max_calls', 'cancel', 'crashes', 'on_crash', 'spent', 'wasted', 'unpriced', 'in_bytes', 'out_bytes', 'price_in',
  'price_out', 'price_version', 'dirty', 'fp', 'window_s', 'ended_by', 'reserved', 'key_id', 'user', 'labels', 'in_est', 'out_est',
  'chain', 'not_before_ms', 'queue_ms', 'grace_ms', 'group', 'joins',
  'mark_ms', 'phases', 'held', 'wait_reason', 'reader_ms',
  'resp', 'resuming', 'max_cost', 'call_bound', 'unsure', 'batches', 'budgets', 'holds', 'budget_waits'}

local function job_of(id) return read(k_job(id), JOB) end

local function terminal(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled' or state == 'expired'
end
