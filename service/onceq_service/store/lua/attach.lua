#!lua flags=allow-oom
-- Writes down the id of a background response as soon as it is known, so that a lost worker's successor finds it.
-- KEYS: root
-- ARGV: id, fence, response
-- Returns: 'ok' | 'lost'

if redis.call('HGET', k_job(ARGV[1]), 'fence') ~= ARGV[2] then return 'lost' end
redis.call('HSET', k_job(ARGV[1]), 'resp', ARGV[3])
return 'ok'
