#!lua flags=allow-oom
-- Books a try that did not end the job and puts the job back into the queue, not before a delay. A refused try is not
-- a call: its record is taken back (G3). It may go on with the next of its models (`fallback`: next | drop). Optionally brakes the lane for all workers. Repeats change nothing.
-- KEYS: root
-- ARGV: id, fence, delay_ms, reason, brake_ms, fallback, outcome, billed, estimated, input, output_tokens, cached, reasoning, spent, measured, cache_write, trips
-- Returns: {'ok' | 'lost' | 'cancel', not_before_ms}; 'cancel' has changed nothing: the worker ends the job

local id, fence = ARGV[1], ARGV[2]
local now = time_ms()
local job = job_of(id)
if job.fence ~= fence then
  local past = read(k_job(id), {'requeued_by', 'not_before_ms'})
  return {past.requeued_by == fence and 'ok' or 'lost', past.not_before_ms or '0'}
end
if job.cancel then return {'cancel', '0'} end
book(id, job, now, {outcome = ARGV[7], billed = tonumber(ARGV[8]), estimated = tonumber(ARGV[9]),
  input = tonumber(ARGV[10]), output = tonumber(ARGV[11]), cached = tonumber(ARGV[12]),
  reasoning = tonumber(ARGV[13]), spent = tonumber(ARGV[14]), kept = 0, reason = ARGV[4],
  cache_write = tonumber(ARGV[16])})
if ARGV[8] == '0' then redis.call('HINCRBY', k_job(id), 'calls', -1) end
roll(now, job, {'retries', 1})
if ARGV[17] == '1' then note_failure(job.lane, now, ARGV[4]) end
if tonumber(ARGV[5]) > 0 then brake(job.lane, now, now + tonumber(ARGV[5]), ARGV[4]) end
local at = now + tonumber(ARGV[3])
spend_call(job, ARGV[15], now)
job.resuming = nil
redis.call('HSET', k_job(id), 'requeued_by', fence)
requeue(id, job, now, at, ARGV[4], ARGV[6])
return {'ok', int(at)}
