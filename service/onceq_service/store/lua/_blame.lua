-- Who made a job slow, or failed it (onceq.wire.Verdict). Pure: it looks at phases and at how the job ended, no more.

-- What each may take before there is anything to explain, ms.
local SLOW = {our_code = 1000, queue = 2000, provider_slow = 1000, provider_throttled = 1000, budget = 1000,
  client_slow = 1000}
-- What a provider may take for what it is asked to do: to its first token, and for its tokens (ten a second).
local FIRST_TOKEN, ANY_ANSWER, A_TOKEN = 5000, 2000, 100

-- Who is to blame when a job fails with this error. Those that are not here are the request's own, or nobody's.
local AT_FAULT = {
  provider_rate_limited = 'provider_throttled',
  provider_overloaded = 'provider_slow', provider_error = 'provider_slow', provider_unreachable = 'provider_slow',
  provider_timeout = 'provider_slow', provider_stalled = 'provider_slow', stream_broken = 'provider_slow',
  stream_garbage = 'provider_slow', stream_ended_early = 'provider_slow', resume_refused = 'provider_slow',
  provider_auth = 'our_code', provider_forbidden = 'our_code', provider_key_missing = 'our_code',
  model_not_found = 'our_code', worker_lost = 'our_code', poison = 'our_code', internal_error = 'our_code',
  budget_exceeded = 'budget', budget_exhausted = 'budget', max_cost_exceeded = 'budget',
  disconnected = 'client_slow',
}

-- Everybody's time, and what of it is more than may be. `job`: took (ms by phase), tokens, reader_ms.
local function shares(job)
  local t = job.took
  local fair = math.min(t.provider_ttft, FIRST_TOKEN) + math.min(t.generation, ANY_ANSWER + job.tokens * A_TOKEN)
  local whole = {
    our_code = t.accept + t.worker + t.delivery,
    queue = t.queue,
    provider_slow = t.backoff + t.connect + t.provider_ttft + t.generation + t.stalls,
    provider_throttled = t.limiter,
    budget = t.budget,
    client_slow = job.reader_ms,
  }
  local over = {}
  for who, ms in pairs(whole) do over[who] = ms - (who == 'provider_slow' and fair or 0) end
  return whole, over
end

-- The greatest; of equals the one that comes first in the order of a job's life.
local ORDER = {'budget', 'queue', 'provider_throttled', 'our_code', 'provider_slow', 'client_slow'}

local function greatest(ms, least)
  local found = nil
  for _, who in ipairs(ORDER) do
    if ms[who] > (least and least[who] or 0) and (not found or ms[who] > ms[found]) then found = who end
  end
  return found
end

-- `job` has state, code (of its error, or nil), took, tokens, reader_ms. nil: there is nothing to explain.
local function blame(job)
  local whole, over = shares(job)
  if job.state == 'expired' then return greatest(over, SLOW) or greatest(whole) end
  if job.state ~= 'failed' then return AT_FAULT[job.code or ''] or greatest(over, SLOW) end
  local who = AT_FAULT[job.code or '']
  -- A provider is not late when it was our worker that did not look.
  if who == 'provider_slow' and over.our_code > SLOW.our_code and over.our_code > over.provider_slow then
    return 'our_code'
  end
  return who
end
