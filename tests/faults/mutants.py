"""Seeded defects, each named after the sentence of the promise that it breaks, and the tests that must find it.

A defect is one small textual change of a source. `make mutants` (mutate.py) puts each into a copy of the tree and fails
when one survives; tests/faults/test_mutants.py keeps the list up with the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LUA, WORKER, PROVIDERS, STORE, API = (
    f"service/onceq_service/{room}" for room in ("store/lua", "worker", "providers", "store", "api")
)
MODEL = "tests/faults/test_model.py"
SCHEDULING = "tests/faults/test_scheduling_model.py"
SHARES = "tests/service/store/test_shares.py"
LANES = "tests/service/store/test_lanes.py"
TO_STOP = f"{SCHEDULING}::test_a_cancelled_call_that_goes_on_is_given_at_once"
CRASH = "tests/faults/test_crash.py"
ROWS = "tests/faults/test_providers.py::test_every_fault_of_every_sdk_ends_as_the_table_says"
JOINED = "tests/service/store/test_transitions.py::test_equal_requests_join_and_later_replay_within_the_window"
CALLS = "tests/service/providers/test_calls.py"
BUDGETS = "tests/service/store/test_budgets.py"
RETRY = "tests/service/worker/test_retry.py"
RELAY = "tests/service/worker/test_relay.py"
BEAT = "tests/service/worker/test_heartbeat.py"
BROKER = "tests/service/worker/test_broker.py"
RUN = "tests/service/worker/test_run.py"
PIPE = "tests/service/store/test_pipe.py"
FAILOVER = "tests/service/store/test_failover.py"
PREPARED = "tests/service/api/test_admission_cache.py"


@dataclass(frozen=True)
class Mutant:
    """`breaks`: what is promised and no longer true when `old`, which is there exactly once, has become `new`."""

    breaks: str
    file: str
    old: str
    new: str
    found_by: Sequence[str] = (MODEL,)


MUTANTS: Sequence[Mutant] = (
    Mutant(
        "G1 a break of the connection is no answer: what has none is asked once more", f"{STORE}/_pipe.py",
        "self._waiting[:0] = once_more", "self._fail(why)", (PIPE,),
    ),
    Mutant(
        "G1 a connection that breaks before Redis is greeted ends no worker", f"{STORE}/_link.py",
        "except (RuntimeError, TypeError) as exc:", "except ZeroDivisionError as exc:", (PIPE,),
    ),
    Mutant(
        "G1 a connection that breaks again is told", f"{STORE}/_pipe.py",
        "if not one.again and one.answer", "if one.answer", (PIPE,),
    ),
    Mutant(
        "G1 a Redis that is silent is told", f"{STORE}/_pipe.py",
        "if due <= loop.time()", "if due <= 0", (PIPE,),
    ),
    Mutant(
        "G1 a Redis that has forgotten our scripts is told them", f"{STORE}/_pipe.py",
        "if unknown and one.script is not None", "if unknown and one.script is None", (PIPE,),
    ),
    Mutant(
        "G8 a primary that became a replica is left", f"{STORE}/_pipe.py",
        "if said.startswith(_REPLICA_WORDS):", "if said is None:", (FAILOVER,),
    ),
    Mutant(
        "G8 a beat leaves a primary that became a replica", f"{STORE}/heartbeat.py",
        "self._redis.connection_pool.disconnect()", "pass", (FAILOVER,),
    ),
    Mutant(
        "G6 readers leave a primary that became a replica", f"{STORE}/events.py",
        "self._pipe.moved.add(self._subscription.renew)", "self._pipe.moved.clear()", (FAILOVER,),
    ),
    Mutant(
        "G8 a worker hears of cancels from the new primary", f"{STORE}/control.py",
        "    pipe.moved.add(subscription.renew)", "    pipe.moved.clear()", (FAILOVER,),
    ),
    Mutant(
        "A job that is followed is not cancelled where Redis is full", f"{LUA}/watch.lua",
        "#!lua flags=allow-oom", "#!lua", ("tests/service/store/test_grace.py",),
    ),
    Mutant(
        "Jobs of a batch that is followed are not cancelled where Redis is full", f"{LUA}/watch_batch.lua",
        "#!lua flags=allow-oom", "#!lua", ("tests/service/store/test_grace.py",),
    ),
    Mutant(
        "A lane is held back for an hour at most", f"{WORKER}/retry.py",
        "brake = min(LONGEST_WAIT_S, delay) if", "brake = delay if", (RETRY,),
    ),
    Mutant(
        "Who resumes a lane lifts its brake", f"{LUA}/_lanes.lua",
        "'paused', 'brake_ms', 'reason', 'fails',", "'paused', 'fails',", (LANES,),
    ),
    Mutant(
        "Who resumes a lane closes its breaker", f"{LUA}/_lanes.lua",
        "'fails', 'opened', 'half', 'probe', 'prober')", "'probe', 'prober')", (LANES,),
    ),
    Mutant(
        "Jobs that are due together hold up nobody's retry", f"{LUA}/_housekeeping.lua",
        "return #due == 32 or", "return", ("tests/service/store/test_scheduling.py",),
    ),
    Mutant(
        "G6 a cut of the subscription loses nothing", f"{STORE}/_subscription.py",
        'self._say("SUBSCRIBE", *self._wanted)', "self._wanted.clear()", ("tests/service/store/test_event_log.py",),
    ),
    Mutant(
        "G1 an ended job is changed by nothing afterwards", f"{LUA}/finish.lua",
        "if job.fence ~= fence then return", "if job.fence ~= fence and not terminal(job.state or '') then return",
    ),
    Mutant(
        "G1 every job ends: a waiting one at its deadline", f"{LUA}/_housekeeping.lua",
        "if job.state == 'queued' then by_itself(", "if job.state == 'gone' then by_itself(",
    ),
    Mutant(
        "G1 a finish whose answer was lost has happened once", f"{LUA}/finish.lua",
        "job.ended_by == fence then", "job.ended_by == 'x' then",
    ),
    Mutant(
        "G2 the same key is the same job", f"{LUA}/admit_plain.lua",
        "redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px)", "local _ = idem_px",
    ),
    Mutant(
        "G2 the same key is the same job, whatever else it asks for", f"{LUA}/admit.lua",
        "redis.call('SET', k_idem(idem), id .. ' ' .. body_hash, 'PX', idem_px)", "local _ = idem_px",
        ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G2 a plain post looks for its key before it is new", f"{LUA}/admit_plain.lua",
        "redis.call('EXISTS', k_job(id), k_idem(idem), k_fp(fp)) > 0",
        "redis.call('EXISTS', k_job(id), k_fp(fp)) > 0",
    ),
    Mutant(
        "G2 a plain post looks for its question before it is new", f"{LUA}/admit_plain.lua",
        "redis.call('EXISTS', k_job(id), k_idem(idem), k_fp(fp)) > 0",
        "redis.call('EXISTS', k_job(id), k_idem(idem)) > 0",
        ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G2 a plain post whose answer was lost makes one job", f"{LUA}/admit_plain.lua",
        "redis.call('EXISTS', k_job(id), k_idem(idem), k_fp(fp)) > 0",
        "redis.call('EXISTS', k_idem(idem), k_fp(fp)) > 0",
    ),
    Mutant(
        "G1 a plain post whose places fail leaves nothing", f"{LUA}/admit_plain.lua",
        "redis.pcall('ZREM', key, unpack(ids))", "local _ = key",
        ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G1 every plain post of a turn has its place in the queue", f"{LUA}/admit_plain.lua",
        "redis.call('ZADD', k_wait(kind.band, lane, tenant), unpack(by_age))",
        "redis.call('ZADD', k_wait(kind.band, lane, tenant), by_age[1], by_age[2])",
        ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G5 sums count every plain post of a turn", f"{LUA}/admit_plain.lua",
        "{'jobs', #ids}", "{'jobs', 1}", ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G2 what is prepared for posts of one API key is no other's", f"{API}/submission/admission_cache.py",
        "key.id, idem_key is None,", "idem_key is None,", (PREPARED,),
    ),
    Mutant(
        "G2 a prepared post is found by its own question", f"{API}/submission/admission_cache.py",
        "fp=self.question(*question(request, self.models, b\"\"))", "fp=self.question(b\"\")", (PREPARED,),
    ),
    Mutant(
        "G2 a prepared post that is left to the common script is the same job there", f"{STORE}/admission.py",
        "msgspec.structs.replace(self.asked, **values._asdict())", "self.asked", (PREPARED,),
    ),
    Mutant(
        "G5 what a prepared post may cost is bound by its own words", f"{API}/submission/admission_cache.py",
        "input_tokens(request, body, self.rules[0].kind)", "1_000", (PREPARED,),
    ),
    Mutant(
        "G2 the same key with another body is refused", f"{LUA}/admit.lua",
        "state and hash ~= body_hash then", "state and hash == '' then",
    ),
    Mutant(
        "G2 a key that joined a job replays that job", f"{LUA}/admit.lua",
        "redis.call('SET', k_idem(idem), other .. ' ' .. body_hash, 'PX', int(left + idem_ms))",
        "local _ = left",
        (JOINED,),
    ),
    Mutant(
        "G2 a failed job frees its fingerprint: dedupe does not block a new try", f"{LUA}/admit.lua",
        "if state and (not terminal(state) or state == 'succeeded') then", "if state then",
        ("tests/faults/test_mutants.py::test_a_failed_job_does_not_block_an_equal_one",),
    ),
    Mutant(
        "G2 a post whose answer was lost makes one job", f"{LUA}/admit.lua",
        "redis.call('EXISTS', k_job(id)) == 1 and", "id == '' and",
    ),
    Mutant(
        "G1 every job of a turn has its place in the queue, not only the first", f"{LUA}/admit.lua",
        "redis.call('ZADD', key, unpack(rows))", "redis.call('ZADD', key, rows[1], rows[2])",
        ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G5 sums count every job of a turn", f"{LUA}/admit.lua",
        "{'jobs', #group.ids}", "{'jobs', 1}", ("tests/service/store/test_admissions.py",),
    ),
    Mutant(
        "G2 cancel cancels a running job: its worker is told", f"{LUA}/append.lua",
        "job[3] and 'cancel' or 'ok'", "'ok'",
    ),
    Mutant(
        "G2 cancel is heard at once, also when nothing arrives", f"{WORKER}/broker.py",
        'claimed.stop(job_id, "cancel")', "claimed.get(job_id)",
        ("tests/faults/test_providers.py::test_a_cancel_closes_upstream_at_once",),
    ),
    Mutant(
        "G3 a call is on record before its first byte leaves", f"{WORKER}/run.py",
        "        sent = await self.store_retry.stored(",
        "        from onceq_service.providers.base import CallSpec, Clocks\n"
        "        early = CallSpec(request, model_id, f\"{claim.id}/1\", Clocks())\n"
        "        async with provider.call(early):\n"
        "            pass\n"
        "        sent = await self.store_retry.stored(",
        (f"{CRASH}::test_a_worker_is_killed[before-the-record]", f"{CRASH}::test_nothing_goes_wrong"),
    ),
    Mutant(
        "G3 only the holder of the fence begins a call", f"{LUA}/dispatch.lua",
        "if job.fence ~= fence then return", "if job.fence == 'x' then return",
    ),
    Mutant(
        "G3 a dispatch whose answer was lost is one call", f"{LUA}/dispatch.lua",
        "if job.tries == ARGV[3] and", "if job.tries == 'x' and",
    ),
    Mutant(
        "G3 no more than max_calls", f"{LUA}/dispatch.lua",
        "if tonumber(job.calls) >= tonumber(job.max_calls) then", "if tonumber(job.calls) >= 1000 then",
    ),
    Mutant(
        "G3 a refusal (429) is not a call", f"{LUA}/requeue.lua",
        "if ARGV[8] == '0' then redis.call('HINCRBY', k_job(id), 'calls', -1) end", "",
    ),
    Mutant(
        "G3 provider SDKs never retry on their own", f"{PROVIDERS}/openai.py",
        "max_retries=0", "max_retries=2", ("tests/service/providers/test_provider_llmock.py",),
    ),
    Mutant(
        "G3 an error that is handed to a provider's SDK is not asked for once more", f"{PROVIDERS}/_calls.py",
        "await self._by_sdk(body, spec, answer)", "await self._by_sdk(body, spec)", (CALLS,),
    ),
    Mutant(
        "a head that changes from call to call is never repeated", f"{PROVIDERS}/_calls.py",
        "RENEW_S if before == self._made else 0.0", "RENEW_S", (CALLS,),
    ),
    Mutant(
        "each repeated request has an id of its own", f"{PROVIDERS}/_calls.py",
        "{CALL_ID}: {call_id}", "{CALL_ID}: job", (CALLS,),
    ),
    Mutant(
        "G3 two workers never hold one job: a fence is given once", f"{LUA}/next.lua",
        "int(turn) .. '-' .. random", "int(turn) .. '-x'",
        ("tests/faults/test_mutants.py::test_a_fence_can_not_be_guessed",),
    ),
    Mutant(
        "G7 no call that could pass max_cost_usd", f"{LUA}/dispatch.lua",
        "if over_max_cost(job) then return answer('max_cost') end", "",
        ("tests/service/store/test_max_cost.py",),
    ),
    Mutant(
        "G7 a call that nobody reported counts with its bound", f"{LUA}/_money.lua",
        "(tonumber(job.unsure) or 0) + bound", "bound",
        ("tests/service/store/test_max_cost.py",),
    ),
    Mutant(
        "G7 a post without room is refused", f"{LUA}/admit.lua",
        "job.budgets and reserve(id, job, now)", "job.budgets and nil",
        (BUDGETS,),
    ),
    Mutant(
        "G7 a further call is topped up", f"{LUA}/dispatch.lua",
        "job.budgets and not job.holds and reserve(id, job, now, ARGV[9])", "nil",
        (BUDGETS,),
    ),
    Mutant(
        "G7 what is held for a call that is not made is given back", f"{LUA}/_ending.lua",
        "  if job.holds then let_go(id, job, now) end\n", "",
        (BUDGETS,),
    ),
    Mutant(
        "G7 the cost of a call takes the place of what was held for it", f"{LUA}/_money.lua",
        "if t.billed == 1 and job.holds then let_go(", "if t.kept == 1 and job.holds then let_go(",
        (BUDGETS,),
    ),
    Mutant(
        "G7 what a call without a report may have cost stays counted", f"{LUA}/_budget.lua",
        "if unsure > 0 and b.mode == 'hard' then", "if unsure < 0 then",
        (BUDGETS,),
    ),
    Mutant(
        "G7 a budget over several replicas is one budget", f"{LUA}/_budget.lua",
        "local left = b.limit - gone - (tonumber(use.reserved) or 0)", "local left = b.limit - gone",
        (BUDGETS,),
    ),
    Mutant(
        "G7 a job is held to all of its budgets, not to the first", f"{LUA}/_budget.lua",
        "    if why then\n      if not starts", "    if n == 1 then break end\n    if why then\n      if not starts",
        (BUDGETS,),
    ),
    Mutant(
        "G4 no call after cancel", f"{LUA}/dispatch.lua",
        "if job.cancel then return answer('cancel') end", "",
    ),
    Mutant(
        "G4 no call behind the deadline", f"{LUA}/dispatch.lua",
        "if now >= tonumber(job.deadline_ms) then return answer('deadline') end", "",
    ),
    Mutant(
        "a call that runs at the deadline is closed", f"{WORKER}/calling.py",
        'timers = [loop.call_later((attempt.sent.deadline_ms - attempt.sent.now_ms) / 1000, '
        'attempt.job.stop, "deadline")]',
        "timers = list[asyncio.TimerHandle]()",
        ("tests/rows/test_control.py::test_a_call_that_runs_at_the_deadline_is_closed_booked_once_and_its_text_is_kept",),
    ),
    Mutant(
        "G4 a rejected request is never tried again", f"{WORKER}/retry.py",
        'rejected = error.cause == "rejected"', "rejected = False", (RETRY,),
    ),
    Mutant(
        "G4 a worker that was lost is on_crash's to judge", f"{LUA}/_housekeeping.lua",
        "elseif sent and job.on_crash ", "elseif not sent and job.on_crash ",
    ),
    Mutant(
        "G4 a job that kills its workers is given up", f"{LUA}/_housekeeping.lua",
        "elseif crashes >= 6 then", "elseif crashes >= 60 then",
    ),
    Mutant(
        "G4 an answer is one only with its end marker", f"{PROVIDERS}/_stream.py",
        "            if chunk is None:\n                self._fail(errors.ENDED_EARLY)",
        "            if chunk is None:\n                self._answer.finish_reason = \"stop\"\n"
        "                self._answer.finished = True",
        (ROWS,),
    ),
    Mutant(
        "G4 no retry comes before Retry-After", f"{WORKER}/retry.py",
        "return error.retry_after_s + rng", "return rng", (RETRY,),
    ),
    Mutant(
        "G4 the backoff has full jitter", f"{WORKER}/retry.py",
        "backoff = rng.uniform(0, min(CAP_S", "backoff = rng.uniform(1, min(CAP_S", (RETRY,),
    ),
    Mutant(
        "G5 every call is in the ledger", f"{LUA}/_money.lua",
        "row.id = keep_row(row, now)", "row.id = ''",
    ),
    Mutant(
        "G5 a call that was lost with its worker is booked", f"{LUA}/_housekeeping.lua",
        "t.outcome, t.reason = 'worker_lost', 'worker_lost'\n    book(id, job, now, t)", "local _ = t.spent",
    ),
    Mutant(
        "G5 a worker that lost its job owns up to what it had read", f"{WORKER}/run.py",
        "            await self._own_up(attempt)\n", "", (RUN,),
    ),
    Mutant(
        "G5 it does so once", f"{LUA}/amend.lua",
        "or booked[name .. ':more'] then", "then", ("tests/service/store/test_recovery.py",),
    ),
    Mutant(
        "G5 a call that another worker has taken up is left to it", f"{LUA}/amend.lua",
        "if not booked[name] then return 'open' end",
        "if not booked[name] then booked[name] = '{\"estimated\":\"1\",\"model\":\"m\",\"reason\":\"\"}' end",
        ("tests/service/store/test_recovery.py",),
    ),
    Mutant(
        "G7 what turns out later of a call is in its budgets", f"{LUA}/amend.lua",
        "amend_budgets(job, row.holds, now", "amend_budgets(job, nil, now", (BUDGETS,),
    ),
    Mutant(
        "G5 what rests on estimates is summed up apart", f"{LUA}/_money.lua",
        "'est', t.estimated * spent", "'est', spent",
    ),
    Mutant(
        "G5 waste is counted as waste", f"{LUA}/_money.lua",
        "and spent or 0", "and 0 or 0",
    ),
    Mutant(
        "G5 the rollups are the sums of the ledger", f"{LUA}/_money.lua",
        "{'tries', 1, 'calls', t.billed,", "{'tries', 1, 'calls', 1,",
    ),
    Mutant(
        "G6 events are numbered without a gap", f"{LUA}/_ending.lua",
        "  job.seq = int(tonumber(job.seq) + 1)\n  emit(id, tonumber(job.seq), 'retrying'",
        "  job.seq = int(tonumber(job.seq) + 2)\n  emit(id, tonumber(job.seq), 'retrying'",
    ),
    Mutant(
        "G6 the same number has the same content: nothing is appended twice", f"{LUA}/append.lua",
        "if seq == last + 1 then\n", "if seq <= last + 1 then\n      seq = last + 1\n",
    ),
    Mutant(
        "G6 a worker that lost its job reaches no reader", f"{LUA}/append.lua",
        "if job[1] ~= ARGV[n + 1] then", "if job[1] == 'x' then",
    ),
    Mutant(
        "G6 a second call begins with a reset", f"{LUA}/dispatch.lua",
        "if job.dirty then emit", "if job.nothing then emit",
    ),
    Mutant(
        "G6 what a restarted Redis has lost is sent again", f"{WORKER}/call.py",
        "self.sent = min(len(self.frames), last - self.base)", "self.sent = max(self.sent, last - self.base)", (RELAY,),
    ),
    Mutant(
        "G6 what was said while Redis was away is written afterwards", f"{WORKER}/relay.py",
        "self._dirty |= dict.fromkeys(call for call in calls if not call.settled)", "pass", (RELAY,),
    ),
    Mutant(
        "G6 the numbers of a batch go on while one of its jobs lives", f"{LUA}/_batches.lua",
        "if redis.call('EXISTS', k_batchlive(tenant, batch)) == 1 then", "if false then",
        ("tests/service/store/test_batches.py",),
    ),
    Mutant(
        "G8 a job whose worker died runs again", f"{LUA}/_housekeeping.lua",
        "else by_itself(k_leases(), id, now, recover, id, job, now, ttl) end",
        "else redis.call('ZREM', k_leases(), id, id == '' and recover) end",
    ),
    Mutant(
        "G8 Redis was away is not the worker was away (the outage rule)", f"{LUA}/_housekeeping.lua",
        "elseif now < from then redis.call('ZADD', k_leases(), int(from), id)",
        "elseif from < 0 then redis.call('ZADD', k_leases(), int(from), id)",
    ),
    Mutant(
        "G8 a heartbeat renews the lease", f"{LUA}/beat.lua",
        "redis.call('ZADD', k_leases(), int(now + lease_ms), ARGV[n])", "local _ = lease_ms",
    ),
    Mutant(
        "G8 a worker whose loop is dead stops renewing", f"{WORKER}/heartbeat.py",
        "if time.monotonic() - self._ticked < LOOP_DEAD_S:", "if self._ticked:", (BEAT,),
    ),
    Mutant(
        "G8 a claim whose answer was lost is the worker's own", f"{LUA}/next.lua",
        "if before.nonce == nonce then", "if before.nonce == '' then",
    ),
    Mutant(
        "SIGTERM hands back what was not dispatched", f"{WORKER}/broker.py",
        "await self.store.engine.release(claim)", "pass", (BROKER,),
    ),
    Mutant(
        "SIGTERM ends what outlasts the drain", f"{WORKER}/broker.py",
        'self.claimed.stop_all, "drain")', "len, [])", (BROKER,),
    ),
    Mutant(
        "A worker claims no more than it has slots", f"{WORKER}/broker.py",
        "want = min(CLAIM_AT_ONCE, self.claimed.free)", "want = CLAIM_AT_ONCE", (BROKER,),
    ),
    Mutant(
        "No sixty seconds see more starts than a lane's minute allows", f"{LUA}/_lanes.lua",
        "local WINDOW = 61", "local WINDOW = 60", (LANES,),
    ),
    Mutant(
        "A lane runs no more jobs at once than it may", f"{LUA}/_lanes.lua",
        "redis.call('HINCRBY', k_lane(lane), 'running', 1)", "local _ = l.running", (SCHEDULING,),
    ),
    Mutant(
        "Tenants start jobs in proportion to their weights", f"{LUA}/_waiting.lua",
        "1 / (tonumber(redis.call('HGET', k_weights(), tenant)) or 1)", "1", (SHARES,),
    ),
    Mutant(
        "Tenants start jobs in equal shares, however many models they ask", f"{LUA}/_waiting.lua",
        "  redis.call('ZADD', shares(band, lane), turn + step(tenant), tenant)\n", "", (SHARES,),
    ),
    Mutant(
        "Who shares a lane with a tenant that asks many models waits for its own turn alone", f"{LUA}/_waiting.lua",
        "    turn = next_turn(band, nil, tenant)\n", "    turn = next_turn(band, nil, 'anybody')\n", (SHARES,),
    ),
    Mutant(
        "... and for that again after each start", f"{LUA}/next.lua",
        "next_turn(band, nil, tenant, place), tenant)", "next_turn(band, lane, tenant, place), tenant)", (SHARES,),
    ),
    Mutant(
        "... also where its lane stands at the turn of another", f"{LUA}/_waiting.lua",
        "k_ready(band), 'LT', math.max", "k_ready(band), 'NX', math.max", (SHARES,),
    ),
    Mutant(
        "Who has a turn in the lane goes before those whose turns in the band are to come", f"{LUA}/_waiting.lua",
        "return -1 / (1 + turn)", "return turn", (SHARES,),
    ),
    Mutant(
        "Who leaves a lane without a start gives its turn in the band back", f"{LUA}/_waiting.lua",
        "  give_back(band, nil, tenant)\n", "", (SHARES,),
    ),
    Mutant(
        "... and the one that it has in the lane", f"{LUA}/_waiting.lua",
        "if open and turn < 0 then give_back(band, lane, tenant) end", "", (SHARES,),
    ),
    Mutant(
        "A lane whose first tenant has left it goes to the next one's turn", f"{LUA}/_waiting.lua",
        "if open and redis.call('ZSCORE', k_ready(band), lane) then line_up(band, lane) end", "", (SHARES,),
    ),
    Mutant(
        "Weights hold in a lane that is slower than its band", f"{LUA}/_waiting.lua",
        "k_shares(lane and band .. '|' .. lane or band)", "k_shares(band)", (SHARES,),
    ),
    Mutant(
        "A lane that was held back goes on when its time has come", f"{LUA}/_housekeeping.lua",
        "if line_up(band, lane) then", "if k_fair(band, lane) then",
        ("tests/service/store/test_scheduling.py",),
    ),
    Mutant(
        "A worker finds its lanes behind any number of others'", f"{LUA}/next.lua",
        "until #lanes < SCAN or tried >= SCAN or passed[band] >= till", "until true",
        ("tests/service/store/test_scheduling.py",),
    ),
    Mutant(
        "A job that leaves a lane that is held back is queued in another one", f"{LUA}/next.lua",
        "      enqueue(id, job)\n", "", (SCHEDULING,),
    ),
    Mutant(
        "A job that was handed over goes on in its own lane", f"{LUA}/_fallback.lua",
        "if (job.chain or '') == '' or job.resuming then return end", "if (job.chain or '') == '' then return end",
        (SCHEDULING,),
    ),
    Mutant(
        "A cancelled call that goes on is stopped whatever holds its lane", f"{LUA}/next.lua",
        "for _, id in ipairs(to_stop()) do", "for _, id in ipairs({}) do", (TO_STOP,),
    ),
    Mutant(
        "... also when its workers died twice", f"{LUA}/next.lua",
        "(open or job.cancel and not is_down(job.lane, now)) and", "open and", (TO_STOP,),
    ),
    Mutant(
        "... and when it was cancelled while it waited", f"{LUA}/_housekeeping.lua",
        "  elseif job.state == 'queued' then\n    spend_wait", "  elseif false then\n    spend_wait", (TO_STOP,),
    ),
    Mutant(
        "... and it counts for no limit of its lane", f"{LUA}/_lanes.lua",
        "  if job.cancel then return end\n", "", (TO_STOP,),
    ),
    Mutant(
        "A slot that becomes free lets the lane's next job start", f"{LUA}/_lanes.lua",
        "  end\n  reopen(job.lane)\nend", "  end\nend", (SCHEDULING,),
    ),
    Mutant(
        "G1 a job that holds nothing in its budget ends as others do", f"{LUA}/_base.lua",
        "string.format('%.0f', n + 0)", "string.format('%.0f', n)", ("tests/service/store/test_budgets.py",),
    ),
    Mutant(
        "G1 a job that can't be ended holds up no other", f"{LUA}/_housekeeping.lua",
        "local done, why = pcall(step, ...)", "local done, why = true, step(...)",
        ("tests/service/store/test_budgets.py",),
    ),
    Mutant(
        "G7 an estimate is not above what its call can cost", f"{LUA}/_money.lua",
        "if t.spent and t.estimated == 1 and job.call_bound then", "if false then",
        ("tests/service/store/test_budgets.py",),
    ),
    Mutant(
        "G4 an answer that is whole is not asked for again", f"{WORKER}/result.py",
        "if stream.answered:", "if False:", (RUN,),
    ),
    Mutant(
        "G5 a call that never left is free", f"{WORKER}/calling.py",
        "result.begun = result.begun or progress.started", "result.begun = True", (RUN,),
    ),
    Mutant(
        "G3 a worker that gets its own lost job again has one call of it", f"{WORKER}/claimed.py",
        'before.stop("lost")', "pass", (RUN,),
    ),
    Mutant(
        "G3 words of a lost call do not stop its successor", f"{WORKER}/relay.py",
        "owners[frame.id, frame.fence]", "list(owners.values())[-1]", (RUN,),
    ),
    Mutant(
        "Tenants are walls", f"{LUA}/cancel.lua",
        "or job.tenant ~= ARGV[2] then", "then",
        ("tests/faults/test_mutants.py::test_a_tenant_can_not_cancel_anothers_job",),
    ),
)  # fmt: skip
