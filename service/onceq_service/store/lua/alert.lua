#!lua flags=allow-oom
-- Takes an alert that is due, for so long: a worker that dies with it lets another one have it. What was kept for a
-- week and not delivered is dropped.
-- KEYS: root
-- ARGV: id, hold_ms
-- Returns: the alert as a flat list; empty when it is not due, or gone

local id, now = ARGV[1], time_ms()
local due = tonumber(redis.call('ZSCORE', k_alerts(), id) or '')
if not due or due > now then return {} end
if redis.call('EXISTS', k_alert(id)) == 0 then
  redis.call('ZREM', k_alerts(), id)
  return {}
end
redis.call('HINCRBY', k_alert(id), 'tries', 1)
redis.call('ZADD', k_alerts(), int(now + tonumber(ARGV[2])), id)
return redis.call('HGETALL', k_alert(id))
