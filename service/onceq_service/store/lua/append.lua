#!lua flags=allow-oom
-- Appends frames to the logs of running jobs: one flush of a worker, of many jobs at once. Each frame is judged by
-- itself, and idempotent by its expected number. Renews the leases; publishes only what it accepted, so that a worker
-- that lost its job reaches no reader.
-- KEYS: root
-- ARGV: lease_ms, (id, fence, seq, out_bytes, cursor, frame)...
-- Returns: for each frame {'ok' | 'cancel' | 'lost' | 'gap', the log's last number}

local now = time_ms()
local till = int(now + tonumber(ARGV[1]))
local out, renewed = {}, {}

-- `cursor` is how far a background response has got with this frame: log and cursor never disagree. What the first frame
-- of a call says of its job is not said again. Most frames are neither: they are written without a table of fields.
local function accept(id, key, seq, out_bytes, cursor, frame, first_ms, dirty)
  log(id, seq, frame)
  redis.call('HSET', key, 'seq', seq, 'out_bytes', out_bytes)
  if cursor ~= '' then redis.call('HSET', key, 'cursor', cursor) end
  if not dirty then redis.call('HSET', key, 'phase', 'streaming', 'dirty', '1') end
  if not first_ms then redis.call('HSET', key, 'first_ms', int(now)) end
  renewed[#renewed + 1] = till
  renewed[#renewed + 1] = id
end

for n = 2, #ARGV, 6 do
  local id, seq = ARGV[n], tonumber(ARGV[n + 2])
  local key = k_job(id)
  local job = redis.call('HMGET', key, 'fence', 'seq', 'cancel', 'first_ms', 'dirty')
  local last = tonumber(job[2]) or 0
  if job[1] ~= ARGV[n + 1] then out[#out + 1] = {'lost', last}
  elseif seq > last + 1 then out[#out + 1] = {'gap', last}
  else
    if seq == last + 1 then
      accept(id, key, ARGV[n + 2], ARGV[n + 3], ARGV[n + 4], ARGV[n + 5], job[4], job[5])
      last = seq
    end
    out[#out + 1] = {job[3] and 'cancel' or 'ok', last}
  end
end
if renewed[1] then redis.call('ZADD', k_leases(), unpack(renewed)) end
return out
