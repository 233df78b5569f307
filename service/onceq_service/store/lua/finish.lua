#!lua flags=allow-oom
-- Ends a running job: last text, result, usage, cost, ledger row, rollups and terminal event in one step. A repeat
-- with the same fence (its reply was lost) changes nothing. Optionally brakes the lane for all workers.
-- KEYS: root
-- ARGV: id, fence, state, first_seq, frames, rest, output, outcome, billed, estimated, input, output_tokens, cached, reasoning, spent, kept, reason, provider_ttft_ms, booked, result_ttl_s, events_ttl_s, out_bytes, measured, cache_write, brake_ms, trips, frame...
-- Returns: {'ok' | 'lost' | 'gap', the log's last number}

local id, fence, state = ARGV[1], ARGV[2], ARGV[3]
local now = time_ms()
local job = job_of(id)
if job.state and terminal(job.state) and job.ended_by == fence then return {'ok', job.seq} end
if job.fence ~= fence then return {'lost', job.seq or '0'} end

local seq = tonumber(ARGV[4])
if seq > tonumber(job.seq) + 1 then return {'gap', job.seq} end
for n = 1, tonumber(ARGV[5]) do
  if seq == tonumber(job.seq) + 1 then
    log(id, int(seq), ARGV[26 + n])
    job.seq, job.first_ms = int(seq), job.first_ms or int(now)
  end
  seq = seq + 1
end

if ARGV[19] == '1' then
  book(id, job, now, {outcome = ARGV[8], billed = tonumber(ARGV[9]), estimated = tonumber(ARGV[10]),
    input = tonumber(ARGV[11]), output = tonumber(ARGV[12]), cached = tonumber(ARGV[13]),
    reasoning = tonumber(ARGV[14]), spent = tonumber(ARGV[15]), kept = tonumber(ARGV[16]), reason = ARGV[17],
    cache_write = tonumber(ARGV[24])})
  if ARGV[9] == '0' then
    job.calls = int(tonumber(job.calls) - 1)
    redis.call('HSET', k_job(id), 'calls', job.calls)
  end
end
if state == 'succeeded' then note_success(job.lane, now)
elseif ARGV[19] == '1' and ARGV[26] == '1' then note_failure(job.lane, now, ARGV[8]) end
if tonumber(ARGV[25]) > 0 then brake(job.lane, now, now + tonumber(ARGV[25]), ARGV[8]) end
local set = {'output', ARGV[7], 'out_bytes', ARGV[22]}
if job.first_ms then set[#set + 1] = 'first_ms'; set[#set + 1] = job.first_ms end
local rest = ARGV[6] .. (state == 'cancelled' and why_cancelled(id, job) or '')
spend_call(job, ARGV[23], now)
local last = finish(id, job, now, {state = state, rest = rest, provider_ttft_ms = tonumber(ARGV[18]),
  result_ttl = ARGV[20], events_ttl = ARGV[21], set = set, tokens = tonumber(ARGV[12])})
return {'ok', int(last)}
