#!lua flags=allow-oom
-- Says that somebody follows a batch now: its jobs with on_disconnect cancel go on for their grace from here. However many
-- they are it is one write, and none where no job of the queue has a grace.
-- KEYS: root
-- ARGV: tenant, batch
-- Returns: 1, 0 where there was nothing to say

if redis.call('EXISTS', k_watched()) == 0 then return 0 end
redis.call('SET', k_batchseen(ARGV[1], ARGV[2]), int(time_ms()), 'EX', 90000) -- longer than any grace
return 1
