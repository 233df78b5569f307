#!lua flags=allow-oom
-- Hands back a job that was claimed and not dispatched (a worker that stops): queued again, free, and no event. One that
-- was cancelled meanwhile ends.
-- KEYS: root
-- ARGV: id, fence, result_ttl_s, events_ttl_s
-- Returns: 'ok' | 'lost'

local id = ARGV[1]
local now, job = time_ms(), job_of(id)
if job.fence ~= ARGV[2] or job.phase ~= 'claimed' then return 'lost' end
spend(job, 'worker', now)
save_phases(id, job)
redis.call('HSET', k_job(id), 'state', 'queued', 'phase', '')
redis.call('HDEL', k_job(id), 'fence')
redis.call('ZREM', k_leases(), id)
redis.call('ZADD', k_deadlines(), int(start_by(job)), id)
leave_lane(id, job)
move(id, job, 'running', 'queued')
job.state, job.fence = 'queued', nil
enqueue(id, job)
if job.cancel then cancel_job(id, job, now, {result = ARGV[3], events = ARGV[4]}, job.cancel) end
return 'ok'
