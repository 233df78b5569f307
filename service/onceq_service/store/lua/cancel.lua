#!lua flags=allow-oom
-- Cancels a job of this tenant: at once when it waits; a running one is flagged and its worker told.
-- KEYS: root
-- ARGV: id, tenant, result_ttl_s, events_ttl_s
-- Returns: 'unknown' | 'cancelled' | 'requested' | 'ended'

local id = ARGV[1]
local job = job_of(id)
if not job.state or job.tenant ~= ARGV[2] then return 'unknown' end
if terminal(job.state) then return 'ended' end
if job.state == 'queued' then
  finish(id, job, time_ms(), {state = 'cancelled', rest = '', result_ttl = ARGV[3], events_ttl = ARGV[3]})
  return 'cancelled'
end
redis.call('HSET', k_job(id), 'cancel', '1')
redis.call('PUBLISH', k_control(), id)
return 'requested'
