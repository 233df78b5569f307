#!lua flags=allow-oom
-- Gives a job back whose background response goes on at the provider: the next worker takes it up again, nothing is
-- booked. A repeat changes nothing.
-- KEYS: root
-- ARGV: id, fence, delay_ms, reason, measured
-- Returns: 'ok' | 'lost' | 'cancel' (nothing has changed: the worker stops the provider and ends the job)

local id, fence = ARGV[1], ARGV[2]
local now, job = time_ms(), job_of(id)
if job.fence ~= fence then
  return redis.call('HGET', k_job(id), 'requeued_by') == fence and 'ok' or 'lost'
end
if job.cancel then return 'cancel' end
redis.call('HSET', k_job(id), 'requeued_by', fence)
spend_call(job, ARGV[5], now)
hand_over(id, job, now, now + tonumber(ARGV[3]), ARGV[4])
return 'ok'
