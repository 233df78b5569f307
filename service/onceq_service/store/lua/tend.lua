#!lua flags=allow-oom
-- What an API process does each second, so that jobs recover although every worker is dead: promote what is due, reap
-- expired leases, expire passed deadlines, cancel what nobody follows any more; each a bounded number.
-- KEYS: root
-- ARGV: lease_ms, result_ttl_s, events_ttl_s
-- Returns: now_ms

local now = time_ms()
local ttl = {result = ARGV[2], events = ARGV[3]}
promote(now)
reap(now, tonumber(ARGV[1]), ttl)
expire_due(now, ttl)
cancel_unwatched(now, ttl)
return int(now)
