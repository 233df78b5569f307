#!lua flags=allow-oom
-- Says that somebody follows a job with on_disconnect cancel now: it goes on for its grace from here.
-- KEYS: root
-- ARGV: id
-- Returns: until when (ms), 0 when the job is not one of those

local grace = tonumber(redis.call('HGET', k_job(ARGV[1]), 'grace_ms') or '')
if not grace then return '0' end
local till = int(time_ms() + grace)
redis.call('ZADD', k_watched(), 'XX', 'GT', till, ARGV[1])
return till
