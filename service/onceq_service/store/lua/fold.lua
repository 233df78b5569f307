#!lua flags=allow-oom
-- Writes down the text of a job that ended without its worker, as it was read from its log; from here on the log lives
-- as long as those of other jobs. A repeat changes nothing.
-- KEYS: root
-- ARGV: id, output, events_ttl_s
-- Returns: 'ok' | 'gone'

local id = ARGV[1]
local job = read(k_job(id), {'state', 'finished_ms'})
redis.call('ZREM', k_unfolded(), id)
if not job.state or not terminal(job.state) then return 'gone' end
redis.call('HSETNX', k_job(id), 'output', ARGV[2])
local left = tonumber(job.finished_ms) + tonumber(ARGV[3]) * 1000 - time_ms()
redis.call('PEXPIRE', k_events(id), int(math.max(1, left)), 'LT')
return 'ok'
