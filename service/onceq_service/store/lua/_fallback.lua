-- A job with several models goes on with the next one when the present one's lane is held back or has failed it.

-- The models in the order in which they will be tried, the present one first.
local function models_of(job)
  local out = {job.lane}
  for name in string.gmatch(job.chain or '', '%S+') do out[#out + 1] = name end
  return out
end

-- Makes the n-th of the models the present one. Those before it go to the end, but for one that is dropped for good.
local function choose(id, job, models, n, drop)
  local rest = {}
  for k = n + 1, #models do rest[#rest + 1] = models[k] end
  for k = drop and 2 or 1, n - 1 do rest[#rest + 1] = models[k] end
  job.model, job.lane, job.provider = models[n], models[n], string.match(models[n], '^[^/]+')
  job.chain = table.concat(rest, ' ')
  redis.call('HSET', k_job(id), 'model', job.model, 'lane', job.lane, 'provider', job.provider, 'chain', job.chain)
end

-- Why a lane starts nothing for longer than a moment; nil when it may.
local function held_back(lane, now)
  local l = read(k_lane(lane), {'paused', 'brake_ms', 'reason'})
  if l.paused then return 'lane_paused' end
  if (tonumber(l.brake_ms) or 0) > now + 1000 then return l.reason or 'lane_braked' end
  return nil
end

-- Takes the first model whose lane is not held back, and tells the readers when it is another one.
local function route(id, job, now)
  if (job.chain or '') == '' or job.resuming then return end
  local models, why = models_of(job), held_back(job.lane, now)
  if not why then return end
  for n = 2, #models do
    if not held_back(models[n], now) then
      choose(id, job, models, n)
      job.seq = int(tonumber(job.seq) + 1)
      redis.call('HSET', k_job(id), 'seq', job.seq)
      emit(id, tonumber(job.seq), 'retrying', tonumber(job.call) or 0, ',"reason":' .. cjson.encode(why) ..
        ',"retry_at":"' .. rfc3339(now) .. '","model":' .. cjson.encode(job.model))
      return
    end
  end
end
