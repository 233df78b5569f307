#!lua
-- Writes, changes or (`value` empty) removes a budget made through the API, where it still is as `before` says it was.
-- KEYS: root
-- ARGV: id, account, before, value
-- Returns: 'ok' | 'stale'

local id, account, value = ARGV[1], ARGV[2], ARGV[4]
if (redis.call('HGET', k_budgets(), id) or '') ~= ARGV[3] then return 'stale' end
if value ~= '' then redis.call('HSET', k_budgets(), id, value)
else
  redis.call('HDEL', k_budgets(), id)
  redis.call('DEL', k_spend_total(account, '0'), k_spend_total(account, '1'))
end
return 'ok'
