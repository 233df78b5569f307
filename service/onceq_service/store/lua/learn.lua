#!lua flags=allow-oom
-- Writes down what a provider's answer said of its limits, and holds the lane back when nothing is left. What was used
-- before anybody counted is counted now.
-- KEYS: root
-- ARGV: lane, limits, requests_used, brake_ms
-- Returns: 'ok'

local lane, now, used = ARGV[1], time_ms(), tonumber(ARGV[3])
local known = read(k_lane(lane), {'limits', 'learned'})
if used > 0 and not known.limits and not known.learned then count(lane, math.floor(now / 1000), used, 0, 0) end
redis.call('HSET', k_lane(lane), 'learned', ARGV[2])
redis.call('EXPIRE', k_lane(lane), LANE_TTL)
if tonumber(ARGV[4]) > 0 then brake(lane, now, now + tonumber(ARGV[4]), 'provider_rate_limited') end
return 'ok'
