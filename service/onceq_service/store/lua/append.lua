#!lua flags=allow-oom
-- Appends frames to the logs of running jobs: one flush of a worker, in one step a job. Idempotent by the expected
-- number; renews the lease; publishes only what it accepted, so that a worker that lost its job reaches no reader.
-- KEYS: root
-- ARGV: lease_ms, (id, fence, seq, out_bytes, cursor, frame)...
-- Returns: for each frame {'ok' | 'cancel' | 'lost' | 'gap', the log's last number}

local now = time_ms()
local till = int(now + tonumber(ARGV[1]))
local out = {}

-- `cursor` is how far a background response has got with this frame: log and cursor never disagree.
local function accept(id, job, seq, out_bytes, cursor, frame)
  log(id, seq, frame)
  if cursor ~= '' then redis.call('HSET', k_job(id), 'cursor', cursor) end
  redis.call('HSET', k_job(id), 'seq', int(seq), 'out_bytes', out_bytes, 'phase', 'streaming', 'dirty', '1')
  if not job.first_ms then redis.call('HSET', k_job(id), 'first_ms', int(now)) end
  redis.call('ZADD', k_leases(), till, id)
end

for n = 2, #ARGV, 6 do
  local id, fence, seq = ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2])
  local job = read(k_job(id), {'fence', 'seq', 'cancel', 'first_ms'})
  local last = tonumber(job.seq) or 0
  if job.fence ~= fence then out[#out + 1] = {'lost', int(last)}
  elseif seq > last + 1 then out[#out + 1] = {'gap', int(last)}
  else
    if seq == last + 1 then accept(id, job, seq, ARGV[n + 3], ARGV[n + 4], ARGV[n + 5]) last = seq end
    out[#out + 1] = {job.cancel and 'cancel' or 'ok', int(last)}
  end
end
return out
