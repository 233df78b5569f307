-- Put before a whole script by backfill.py: it hears the time from its caller, and lifetimes run by that time. Only on a
-- queue that was opened for it while nothing had ever used it; on any other it does nothing but say so.

local real, redis = redis, {}
local told = tonumber(table.remove(ARGV))
if real.call('EXISTS', k_clock()) == 0 then
  return real.error_reply('TOLD this queue lives by the clock of Redis, and hears the time from nobody')
end
real.call('SET', k_clock(), string.format('%.0f', told))

-- What has lapsed by now is gone before the script looks.
repeat
  local lapsed = real.call('ZRANGEBYSCORE', k_lapses(), '-inf', told, 'LIMIT', 0, 100)
  for _, key in ipairs(lapsed) do real.call('UNLINK', key) real.call('ZREM', k_lapses(), key) end
until #lapsed < 100

local function lapse(key, ms) real.call('ZADD', k_lapses(), string.format('%.0f', told + tonumber(ms)), key) return 1 end

local OWN = {
  TIME = function() return {math.floor(told / 1000), told % 1000 * 1000} end,
  EXPIRE = function(key, s) return lapse(key, tonumber(s) * 1000) end,
  PEXPIRE = lapse,
  PERSIST = function(key) return real.call('ZREM', k_lapses(), key) end,
  SET = function(key, value, ...)
    local rest, ms = {...}, nil
    for n, word in ipairs(rest) do
      if word == 'PX' then ms = rest[n + 1] table.remove(rest, n) table.remove(rest, n) end
    end
    local done = real.call('SET', key, value, unpack(rest))
    if done and ms then lapse(key, ms) end
    return done
  end,
}

function redis.call(name, ...)
  if OWN[name] then return OWN[name](...) end
  return real.call(name, ...)
end
function redis.pcall(...) return real.pcall(...) end
redis.sha1hex, redis.log, redis.LOG_WARNING = real.sha1hex, real.log, real.LOG_WARNING

