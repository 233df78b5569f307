-- The event log: numbered frames in a stream, published as they are written.

-- `seq` is text here and in `log`: what a frame costs is mostly Lua, and most frames bring it as text.
local function publish(id, seq, frame) redis.call('PUBLISH', k_channel(shard(id)), id .. ' ' .. seq .. '\n' .. frame) end

local function log(id, seq, frame)
  redis.call('XADD', k_events(id), seq .. '-0', 'f', frame)
  publish(id, seq, frame)
end

local function frame_of(seq, name, data) return 'id: ' .. int(seq) .. '\nevent: ' .. name .. '\ndata: ' .. data .. '\n\n' end

-- Writes one event made here; `rest` is '' or JSON members that begin with a comma. Returns the event's data.
local function emit(id, seq, name, call, rest)
  local data = '{"job":"' .. id .. '","seq":' .. int(seq) .. ',"call":' .. int(call) .. rest .. '}'
  log(id, int(seq), frame_of(seq, name, data))
  return data
end

-- Writes the first event of a new job, which nobody can listen to yet: nobody knows its id.
local function log_unheard(id, name)
  redis.call('XADD', k_events(id), '1-0', 'f', frame_of(1, name, '{"job":"' .. id .. '","seq":1,"call":0}'))
end

local function rfc3339(ms) -- days to civil date, after H. Hinnant's chrono algorithms
  local days, rest = math.floor(ms / 86400000), ms % 86400000
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local d, m = doy - math.floor((153 * mp + 2) / 5) + 1, mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', y, m, d, math.floor(rest / 3600000),
    math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
end
