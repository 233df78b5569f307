-- Batches: jobs that somebody follows together. `batches` in a job's hash names those that it is in. A batch has a log
-- of its jobs' ends, numbered from 1 without a gap, one entry a job, and a set of the jobs that have yet to end.

local MOST_BATCHES, LONGEST_BATCH = 32, 1000000

local function log_end(tenant, batch, id, state, ttl)
  local entry = redis.call('XADD', k_batch(tenant, batch), 'MAXLEN', '~', LONGEST_BATCH, '0-*', 'j', id, 's', state)
  redis.call('EXPIRE', k_batch(tenant, batch), ttl)
  -- a topic looks like a job's id, so that it has a channel as a job has
  publish('bat_' .. redis.sha1hex(tenant .. ':' .. batch), string.sub(entry, 3), '')
end

-- Takes a job into a batch, once; the end of one that has ended is the batch's next entry. A job that is in too many
-- leaves the oldest.
local function join_batch(id, job, batch, ttl)
  local named = {}
  for name in string.gmatch(job.batches or '', '%S+') do
    if name == batch then return end
    named[#named + 1] = name
  end
  if #named >= MOST_BATCHES then redis.call('SREM', k_batchlive(job.tenant, table.remove(named, 1)), id) end
  named[#named + 1] = batch
  job.batches = table.concat(named, ' ')
  redis.call('HSET', k_job(id), 'batches', job.batches)
  if terminal(job.state) then log_end(job.tenant, batch, id, job.state, ttl)
  else redis.call('SADD', k_batchlive(job.tenant, batch), id) end
end

local function end_in_batches(id, job, state, ttl)
  for batch in string.gmatch(job.batches or '', '%S+') do
    redis.call('SREM', k_batchlive(job.tenant, batch), id)
    log_end(job.tenant, batch, id, state, ttl)
  end
end
