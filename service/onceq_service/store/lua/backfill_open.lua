#!lua
-- Lets a queue hear the time from its caller: only one that no process of onceq has ever used.
-- KEYS: root
-- ARGV: now_ms
-- Returns: 1, or 0 where the queue is in use

for _, key in ipairs({k_counters(), k_apikeys(), k_secrets(), k_pulse(), k_turns(), k_workers(), k_apis()}) do
  if redis.call('EXISTS', key) == 1 then return 0 end
end
redis.call('SET', k_clock(), ARGV[1])
return 1
