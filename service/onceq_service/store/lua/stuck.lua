#!lua
-- Says how long a reader of a job has kept its stream waiting, while the job lives; of several the slowest counts.
-- KEYS: root
-- ARGV: id, ms
-- Returns: 'ok' | 'ended'

local id = ARGV[1]
local state = redis.call('HGET', k_job(id), 'state')
if not state or terminal(state) then return 'ended' end
if tonumber(ARGV[2]) > (tonumber(redis.call('HGET', k_job(id), 'reader_ms')) or 0) then
  redis.call('HSET', k_job(id), 'reader_ms', ARGV[2])
end
return 'ok'
