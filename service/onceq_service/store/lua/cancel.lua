#!lua flags=allow-oom
-- Cancels a job of this tenant: at once when it waits; a running one is flagged and its worker told; one that waits while
-- its call goes on at the provider is given to a worker, which stops that call.
-- KEYS: root
-- ARGV: id, tenant, result_ttl_s, events_ttl_s
-- Returns: 'unknown' | 'cancelled' | 'requested' | 'ended'

local id = ARGV[1]
local job = job_of(id)
if not job.state or job.tenant ~= ARGV[2] then return 'unknown' end
if terminal(job.state) then return 'ended' end
return cancel_job(id, job, time_ms(), {result = ARGV[3], events = ARGV[4]}, 'requested')
