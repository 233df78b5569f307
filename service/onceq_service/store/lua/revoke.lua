#!lua flags=allow-oom
-- Forgets an API key, and tells those who have let somebody in by it: both or neither, also where Redis is full.
-- KEYS: root
-- ARGV: hash of the key, its id, for how long it is told (s)
-- Returns: 'ok', or '' where there is no such key, and was none lately.

local hash, id, told_s = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = time_ms()
if redis.call('HDEL', k_apikeys(), hash) == 0 and not redis.call('ZSCORE', k_revoked(), id) then return '' end
redis.call('ZADD', k_revoked(), int(now), id)
redis.call('ZREMRANGEBYSCORE', k_revoked(), '-inf', int(now - told_s * 1000))
redis.call('EXPIRE', k_revoked(), told_s)
return 'ok'
