#!lua flags=allow-oom
-- Renews the leases of a worker's jobs, says which are lost or cancelled, and registers the worker process.
-- KEYS: root
-- ARGV: worker, info, lease_ms, (id, fence)...
-- Returns: 'ok' | 'cancel' | 'lost' for each job

local worker, lease_ms = ARGV[1], tonumber(ARGV[3])
local now = time_ms()
local out = {}
for n = 4, #ARGV, 2 do
  local job = read(k_job(ARGV[n]), {'fence', 'cancel'})
  if job.fence ~= ARGV[n + 1] then out[#out + 1] = 'lost'
  else
    redis.call('ZADD', k_leases(), int(now + lease_ms), ARGV[n])
    out[#out + 1] = job.cancel and 'cancel' or 'ok'
  end
end
redis.call('SET', k_worker(worker), ARGV[2], 'PX', int(lease_ms * 3))
redis.call('ZADD', k_workers(), int(now), worker)
redis.call('ZREMRANGEBYSCORE', k_workers(), '-inf', int(now - lease_ms * 3))
return out
