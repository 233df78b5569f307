#!lua flags=allow-oom
-- Appends frames to the logs of running jobs: one flush of a worker, in one step a job. Idempotent by the expected
-- number; renews the lease; publishes only what it accepted, so that a worker that lost its job reaches no reader.
-- KEYS: root
-- ARGV: lease_ms, (id, fence, seq, out_bytes, cursor, frame)...
-- Returns: for each frame {'ok' | 'cancel' | 'lost' | 'gap', the log's last number}

local now = time_ms()
local till = int(now + tonumber(ARGV[1]))
local out, renewed = {}, {}

-- `cursor` is how far a background response has got with this frame: log and cursor never disagree. What the first frame
-- of a call says of its job is not said again.
local function accept(id, job, seq, out_bytes, cursor, frame)
  local fields = {'seq', int(seq), 'out_bytes', out_bytes}
  local function set(name, value) fields[#fields + 1] = name; fields[#fields + 1] = value end
  log(id, seq, frame)
  if cursor ~= '' then set('cursor', cursor) end
  if not job.dirty then set('phase', 'streaming'); set('dirty', '1') end
  if not job.first_ms then set('first_ms', int(now)) end
  redis.call('HSET', k_job(id), unpack(fields))
  renewed[#renewed + 1] = till
  renewed[#renewed + 1] = id
end

for n = 2, #ARGV, 6 do
  local id, fence, seq = ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2])
  local job = read(k_job(id), {'fence', 'seq', 'cancel', 'first_ms', 'dirty'})
  local last = tonumber(job.seq) or 0
  if job.fence ~= fence then out[#out + 1] = {'lost', int(last)}
  elseif seq > last + 1 then out[#out + 1] = {'gap', int(last)}
  else
    if seq == last + 1 then accept(id, job, seq, ARGV[n + 3], ARGV[n + 4], ARGV[n + 5]) last = seq end
    out[#out + 1] = {job.cancel and 'cancel' or 'ok', int(last)}
  end
end
if renewed[1] then redis.call('ZADD', k_leases(), unpack(renewed)) end
return out
