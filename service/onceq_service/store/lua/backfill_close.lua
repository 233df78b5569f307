#!lua
-- Gives a queue back to the clock of Redis, for good: keys get the lifetimes that they were told, a bounded number at
-- a time, and behind the last of them nobody tells it the time any more.
-- KEYS: root
-- ARGV: most
-- Returns: 1 when there may be more keys, else 0

local keys = redis.call('ZRANGE', k_lapses(), 0, ARGV[1] - 1, 'WITHSCORES')
for n = 1, #keys, 2 do
  redis.call('PEXPIREAT', keys[n], int(tonumber(keys[n + 1])))
  redis.call('ZREM', k_lapses(), keys[n])
end
if #keys > 0 then return 1 end
redis.call('DEL', k_clock())
return 0
