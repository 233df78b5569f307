#!lua flags=no-writes
-- Looks through a tenant's jobs from the newest on, behind a position, for those that fit: a bounded number of them, so
-- that whatever is asked for costs the same. The caller asks again from where this has got to.
-- KEYS: root
-- ARGV: tenant, most, look, low, high, score, id, statuses, (name, value)...
-- `most` jobs are wanted and `look` are looked at; created from `low` to `high` (ms or -inf, +inf), and behind the job
-- `id` of `score` (empty: from the newest). `statuses` with a space between. A job fits when each of its fields is one of
-- the values that come with its name; `error`, `verdict` and `replayed` (1 or 0) are told by how it ended, `label` is
-- `key=value`, and each of those must fit.
-- Returns: {jobs looked at, 1 when there are more, score and id of the last one looked at, id, ...}

local most, look, low, high = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local at, after = tonumber(ARGV[6]), ARGV[7]

local wanted, labels, names, fields = {}, {}, {}, {'tenant'}
for n = 9, #ARGV, 2 do
  local name, value = ARGV[n], ARGV[n + 1]
  if name == 'label' then
    local key, is = string.match(value, '^([^=]+)=(.*)$')
    labels[#labels + 1] = {key, is}
  else
    if not wanted[name] then wanted[name] = {}; names[#names + 1] = name end
    wanted[name][value] = true
  end
end

local STORED = {error = 'end', verdict = 'end', replayed = 'replayed_by'}
local column = {}
for _, name in ipairs(names) do
  fields[#fields + 1] = STORED[name] or name
  column[name] = #fields
end
if #labels > 0 then fields[#fields + 1] = 'labels'; column.label = #fields end

local READ = {
  error = function(stored) return stored and string.match(stored, '"error":{"code":"([%l_]+)"') end,
  verdict = function(stored) return stored and string.match(stored, '"verdict":"([%l_]+)"') end,
  replayed = function(stored) return stored and '1' or '0' end,
}

local function fits(id)
  local job = redis.call('HMGET', k_job(id), unpack(fields))
  if job[1] ~= ARGV[1] then return false end -- it has lapsed
  for _, name in ipairs(names) do
    local value = job[column[name]] or nil
    if READ[name] then value = READ[name](value) end
    if not wanted[name][value or ''] then return false end
  end
  local tags = #labels > 0 and cjson.decode(job[column.label] or '{}')
  for _, label in ipairs(labels) do
    if tags[label[1]] ~= label[2] then return false end
  end
  return true
end

local function older(a, b) return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2]) end

-- The newest of an index behind the position, one more than are looked at; jobs of one millisecond share a score.
local function newest(key)
  local rows, skip, from = {}, 0, at and ARGV[6] or high
  repeat
    local flat = redis.call('ZRANGE', key, from, low, 'BYSCORE', 'REV', 'LIMIT', skip, look + 1, 'WITHSCORES')
    for n = 1, #flat, 2 do
      local row = {tonumber(flat[n + 1]), flat[n]}
      if not at or older({at, after}, row) then rows[#rows + 1] = row end
    end
    skip = skip + look + 1
  until #rows > look or #flat < 2 * (look + 1)
  return rows
end

local rows = {}
for status in string.gmatch(ARGV[8], '%S+') do
  for _, row in ipairs(newest(k_index(ARGV[1], status))) do rows[#rows + 1] = row end
end
table.sort(rows, older)

local out, looked = {0, 0, '', ''}, 0
for n = 1, math.min(look, #rows) do
  if #out - 4 >= most then break end
  looked = n
  if fits(rows[n][2]) then out[#out + 1] = rows[n][2] end
end
out[1], out[2] = looked, looked < #rows and 1 or 0
if looked > 0 then out[3], out[4] = string.format('%.0f', rows[looked][1]), rows[looked][2] end
return out
