#!lua flags=allow-oom
-- Pauses or resumes a lane or a band: nothing new starts there, what runs goes on. Who resumes a lane lifts its brake and
-- closes its breaker, too.
-- KEYS: root
-- ARGV: kind (lane | band), name, word (pause | resume)
-- Returns: 'ok'

local kind, name, pause = ARGV[1], ARGV[2], ARGV[3] == 'pause'
if kind == 'lane' then
  if pause then
    redis.call('HSET', k_lane(name), 'paused', '1')
    redis.call('EXPIRE', k_lane(name), LANE_TTL)
    redis.call('ZADD', k_lanes(), 'NX', int(time_ms()), name)
  else lift(name, time_ms()) end
  reopen(name) -- a pause, too: jobs of a full lane that another model may answer leave it now, not when a slot is free
elseif pause then redis.call('HSET', k_turns(), 'paused:' .. name, '1')
else
  redis.call('HDEL', k_turns(), 'paused:' .. name)
  for _, lane in ipairs(redis.call('ZRANGE', k_ready(name), 0, 63)) do wake(lane) end
end
return 'ok'
