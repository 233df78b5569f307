#!lua flags=allow-oom
-- Writes the record of a call before its first byte leaves (G3), and tells readers that it starts. `expected` is the
-- try's number, so that a repeated call (its reply was lost) changes nothing.
-- KEYS: root
-- ARGV: id, fence, expected_try, lease_ms, in_bytes, price_in, price_out, price_version, periods
-- `periods` are those of the job's budgets, the starts of one a line.
-- Returns: {'ok' | 'resume' | 'lost' | 'cancel' | 'deadline' | 'max_calls' | 'max_cost' | 'budget_wait' | 'budget', now_ms,
-- seq, call, deadline_ms, why}; `why`: the budget as a flat list and, to wait for it, `at`

local id, fence = ARGV[1], ARGV[2]
local now = time_ms()
local job = job_of(id)
if job.fence ~= fence then return {'lost', int(now), '0', '0', '0'} end

local function answer(word) return {word, int(now), job.seq, job.call, job.deadline_ms} end

if job.resuming then -- its call is on record and goes on at the provider
  spend(job, 'worker', now)
  save_phases(id, job)
  redis.call('HSET', k_job(id), 'phase', 'streaming')
  redis.call('ZADD', k_leases(), int(now + tonumber(ARGV[4])), id)
  return answer('resume')
end
if job.tries == ARGV[3] and job.phase ~= 'claimed' then return answer('ok') end
if job.cancel then return answer('cancel') end
if now >= tonumber(job.deadline_ms) then return answer('deadline') end
if tonumber(job.calls) >= tonumber(job.max_calls) then return answer('max_calls') end
if over_max_cost(job) then return answer('max_cost') end
local short = job.budgets and not job.holds and reserve(id, job, now, ARGV[9])
if short then return no_room(job, now, short, answer) end

spend(job, 'worker', now)
local seq, calls = tonumber(job.seq) + 1, tonumber(job.calls) + 1
if job.dirty then emit(id, seq, 'reset', calls, ',"reason":"call ' .. int(calls) .. ' starts the answer anew"')
else emit(id, seq, 'started', calls, '') end
job.seq, job.call = int(seq), int(calls)
redis.call('HSET', k_job(id), 'phase', 'dispatched', 'seq', job.seq, 'calls', int(calls), 'call', job.call,
  'tries', ARGV[3], 'sent_ms', int(now), 'in_bytes', ARGV[5], 'out_bytes', '0', 'price_in', ARGV[6],
  'price_out', ARGV[7], 'price_version', ARGV[8], 'started_ms', job.started_ms or int(now), phases_said(job))
if job.dirty then redis.call('HDEL', k_job(id), 'dirty') end
redis.call('ZADD', k_leases(), int(now + tonumber(ARGV[4])), id)
return answer('ok')
