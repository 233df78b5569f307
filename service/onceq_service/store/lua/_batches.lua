-- Batches: jobs that somebody follows together. `batches` in a job's hash names those that it is in. A batch has a log
-- of its jobs' ends, numbered from 1 without a gap, one entry a job, and a set of the jobs that have yet to end.

local MOST_BATCHES, LONGEST_BATCH = 32, 1000000

-- The log stays while one of the batch's jobs lives, however long it waits: a log that lapsed would number from 1 again, and
-- readers would miss what has the numbers that they have seen.
local function keep_log(tenant, batch, ttl)
  if redis.call('EXISTS', k_batchlive(tenant, batch)) == 1 then redis.call('PERSIST', k_batch(tenant, batch))
  else redis.call('EXPIRE', k_batch(tenant, batch), ttl) end
end

local function log_end(tenant, batch, id, state, ttl)
  local entry = redis.call('XADD', k_batch(tenant, batch), 'MAXLEN', '~', LONGEST_BATCH, '0-*', 'j', id, 's', state)
  keep_log(tenant, batch, ttl)
  -- a topic looks like a job's id, so that it has a channel as a job has
  publish('bat_' .. redis.sha1hex(tenant .. ':' .. batch), string.sub(entry, 3), '')
end

-- Takes a job that lives out of a batch, which is not told its end.
local function leave_batch(id, tenant, batch, ttl)
  redis.call('SREM', k_batchlive(tenant, batch), id)
  keep_log(tenant, batch, ttl)
end

-- Takes a job into a batch, once; the end of one that has ended is the batch's next entry. A job that is in too many
-- leaves the oldest.
local function join_batch(id, job, batch, ttl)
  local named = {}
  for name in string.gmatch(job.batches or '', '%S+') do
    if name == batch then return end
    named[#named + 1] = name
  end
  if #named >= MOST_BATCHES then leave_batch(id, job.tenant, table.remove(named, 1), ttl) end
  named[#named + 1] = batch
  job.batches = table.concat(named, ' ')
  redis.call('HSET', k_job(id), 'batches', job.batches)
  if terminal(job.state) then log_end(job.tenant, batch, id, job.state, ttl)
  else
    redis.call('SADD', k_batchlive(job.tenant, batch), id)
    keep_log(job.tenant, batch, ttl)
  end
end

local function end_in_batches(id, job, state, ttl)
  for batch in string.gmatch(job.batches or '', '%S+') do
    redis.call('SREM', k_batchlive(job.tenant, batch), id)
    log_end(job.tenant, batch, id, state, ttl)
  end
end
