#!lua flags=allow-oom
-- Hands back a job that was claimed and not dispatched (a worker that stops): queued again, free, and no event.
-- KEYS: root
-- ARGV: id, fence
-- Returns: 'ok' | 'lost'

local id = ARGV[1]
local job = job_of(id)
if job.fence ~= ARGV[2] or job.phase ~= 'claimed' then return 'lost' end
spend(job, 'worker', time_ms())
save_phases(id, job)
redis.call('HSET', k_job(id), 'state', 'queued', 'phase', '')
redis.call('HDEL', k_job(id), 'fence')
redis.call('ZREM', k_leases(), id)
redis.call('ZADD', k_deadlines(), int(start_by(job)), id)
leave_lane(id, job)
move(id, job, 'running', 'queued')
enqueue(id, job)
return 'ok'
