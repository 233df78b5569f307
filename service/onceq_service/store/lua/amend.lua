#!lua flags=allow-oom
-- Books what a worker that has lost its job knows of its call beyond what was booked without it: a row of its own, since
-- rows never change. Takes no fence, which is stale: a try has at most one such row, and only where its own is an estimate.
-- KEYS: root
-- ARGV: id, try_no, estimated, input, output_tokens, cached, reasoning, spent, cache_write
-- Returns: 'ok' | 'known' (there is no more, or it was booked before) | 'open' (nothing is booked yet: its call goes on at
-- the provider, and who took it up books it) | 'gone' (the job has left Redis, and what was booked for it is not known)

local id, name = ARGV[1], 'row:' .. ARGV[2]
local now, job = time_ms(), job_of(id)
if not job.tenant then return 'gone' end
local booked = read(k_job(id), {name, name .. ':more'})
if not booked[name] then return 'open' end
local row = cjson.decode(booked[name])
if row.estimated == '0' or booked[name .. ':more'] then return 'known' end

local more, any = {}, false
for n, what in ipairs({'input', 'output', 'cached', 'reasoning', 'spent', 'cache_write'}) do
  more[what] = math.max(0, (tonumber(ARGV[3 + n]) or 0) - (tonumber(row[what]) or 0))
  any = any or more[what] > 0
end
if not any then return 'known' end

job.model = row.model -- by now it may go on with another one
amend_budgets(job, row.holds, now, tonumber(row.spent) or 0, more.spent, ARGV[3] == '0')
local wasted = row.reason == '' and 0 or more.spent
for what, number in pairs(more) do row[what] = int(number) end
row.holds, row.reserved, row.at, row.wasted = nil, '0', int(now), int(wasted)
row.outcome, row.billed, row.estimated = 'correction', '0', ARGV[3]
if ARGV[8] == '' then row.spent = '' end -- its price is not known
row.id = keep_row(row, now)
redis.call('HSET', k_job(id), name .. ':more', cjson.encode(row))
redis.call('HINCRBY', k_job(id), 'spent', int(more.spent))
redis.call('HINCRBY', k_job(id), 'wasted', row.wasted)
if job.unsure then
  redis.call('HSET', k_job(id), 'unsure', int(math.max(0, tonumber(job.unsure) - more.spent)))
end
roll(now, job, {'in', more.input, 'out', more.output, 'cached', more.cached, 'reasoning', more.reasoning,
  'spent', more.spent, 'wasted', wasted, 'cwrite', more.cache_write, 'w:' .. row.reason, wasted,
  'est', tonumber(ARGV[3]) * more.spent})
return 'ok'
