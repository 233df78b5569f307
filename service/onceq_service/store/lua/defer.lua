#!lua flags=allow-oom
-- Gives back a job whose further call has no room in a budget: queued again, not before `at`. A repeat changes nothing.
-- KEYS: root
-- ARGV: id, fence, at
-- Returns: 'ok' | 'lost' | 'cancel' (nothing has changed: the worker ends the job)

local id, fence = ARGV[1], ARGV[2]
local now, job = time_ms(), job_of(id)
if job.fence ~= fence then
  return redis.call('HGET', k_job(id), 'requeued_by') == fence and 'ok' or 'lost'
end
if job.cancel then return 'cancel' end
redis.call('HSET', k_job(id), 'requeued_by', fence)
redis.call('HINCRBY', k_job(id), 'budget_waits', 1)
requeue(id, job, now, math.max(now, tonumber(ARGV[3])), 'budget_exceeded')
return 'ok'
