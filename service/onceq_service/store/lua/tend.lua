#!lua flags=allow-oom
-- What an API process does each second, so that jobs recover although every worker is dead: promote what is due, reap
-- expired leases, expire passed deadlines, cancel what nobody follows any more; each a bounded number.
-- KEYS: root
-- ARGV: lease_ms, result_ttl_s, events_ttl_s
-- Returns: 1 when there may be more of the first three to look at, else 0

local now = time_ms()
local ttl = {result = ARGV[2], events = ARGV[3]}
local more = promote(now)
more = reap(now, tonumber(ARGV[1]), ttl) or more
more = expire_due(now, ttl) or more
cancel_unwatched(now, ttl)
return more and 1 or 0
