"""Every Redis key of onceq is spelt here, once, with what it holds and how long it lives.

All keys of a queue share the hash tag `{queue}`, so that a queue also lives on a Redis Cluster. Lua scripts get the
root as KEYS[1] and the builders below as `k_<name>(...)`, made by `lua_builders()`: they spell no key either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHANNELS: Final = 64
"""Pub/Sub channels that jobs are spread over; an API process listens only to those that its readers need."""


@dataclass(frozen=True, slots=True)
class Key:
    """A family of keys: its pattern below the root (`%s` = an argument), what it is, and its lifetime."""

    pattern: str
    kind: str
    holds: str
    lives: str
    permanent: bool = False


KEYS: Final[dict[str, Key]] = {
    "job": Key("job:%s", "hash", "one job: request, state, fence, counts, result", "ends + result_ttl_s"),
    "events": Key("events:%s", "stream", "a job's event log, entry ids <seq>-0", "ends + events_ttl_s"),
    "idem": Key("idem:%s", "string", "HMAC of an Idempotency-Key -> job id and body hash", "deadline + 24 h"),
    "fp": Key("fp:%s", "string", "HMAC of a request's fingerprint -> job id", "deadline, then the dedupe window"),
    "movable": Key(
        "movable:%s",
        "zset",
        "waiting jobs of a lane that other models may answer, by when they were last looked at",
        "8 d after the last change",
    ),
    "wait": Key(
        "wait:%s:%s:%s", "zset", "waiting job ids of band, lane, tenant by age", "while not empty", permanent=True
    ),
    "fair": Key(
        "fair:%s:%s",
        "zset",
        "tenants with waiting jobs of band, lane by their turns in the band, or in the lane (below 0)",
        "while not empty",
        permanent=True,
    ),
    "ready": Key(
        "ready:%s",
        "zset",
        "lanes of a band that may start a job, by their turns",
        "while not empty",
        permanent=True,
    ),
    "shares": Key(
        "shares:%s",
        "zset",
        "the last turn of a band, or of a lane in it, and tenants by the next they can have",
        "trimmed at each start; a lane's while not empty",
        permanent=True,
    ),
    "blocked": Key(
        "blocked", "zset", "lanes that may not start a job, by the time they may", "while not empty", permanent=True
    ),
    "lane": Key(
        "lane:%s",
        "hash",
        "a lane's limits, own and learned, brake, pause, breaker, running jobs",
        "8 d after the last change",
    ),
    "window": Key("window:%s", "hash", "what a lane started in each of the last 60 s", "2 min after the last start"),
    "pace": Key("pace:%s:%s", "string", "how many jobs of a lane ended in a minute", "3 min"),
    "lanes": Key("lanes", "zset", "lanes by last start", "newest 1,000", permanent=True),
    "watched": Key(
        "watched",
        "zset",
        "jobs with on_disconnect cancel by when they end unwatched",
        "while not empty",
        permanent=True,
    ),
    "weights": Key("weights", "hash", "tenants' shares that are not 1", "permanent", permanent=True),
    "suspects": Key(
        "suspects",
        "zset",
        "waiting jobs whose workers died twice, by age: they run alone",
        "while not empty",
        permanent=True,
    ),
    "stops": Key(
        "stops",
        "zset",
        "waiting jobs that are cancelled while their calls go on: the next claim has them",
        "while not empty",
        permanent=True,
    ),
    "quarantine": Key("quarantine", "string", "the worker that empties itself to run a suspect", "10 s"),
    "due": Key("due", "zset", "delayed job ids by not-before time", "while not empty", permanent=True),
    "deadlines": Key("deadlines", "zset", "queued job ids by deadline", "while not empty", permanent=True),
    "leases": Key("leases", "zset", "running job ids by the end of their lease", "while not empty", permanent=True),
    "wake": Key(
        "wake:%s",
        "list",
        "one element a waiting worker of a provider to wake, at most 64",
        "while not empty",
        permanent=True,
    ),
    "claim": Key("claim:%s", "hash", "a worker's last claim, so that a lost reply is repeated", "60 s"),
    "worker": Key("worker:%s", "string", "a worker process: what it serves and runs (JSON)", "3 leases"),
    "workers": Key("workers", "zset", "worker ids by last beat", "trimmed at each beat", permanent=True),
    "joined": Key(
        "joined:%s", "zset", "posts that joined a job lately, so that a lost answer joins once", "1 min, newest 1,000"
    ),
    "unfolded": Key(
        "unfolded",
        "zset",
        "jobs that ended without their worker: their text is in the log only",
        "while not empty",
        permanent=True,
    ),
    "apis": Key("apis", "hash", "API processes: open event streams, and when each said so", "1 min after the last"),
    "batch": Key(
        "batch:%s:%s", "stream", "ends of the jobs of a tenant's batch, entry ids 0-<n>", "all ended + result_ttl_s"
    ),
    "batchlive": Key(
        "batchlive:%s:%s",
        "set",
        "jobs of a tenant's batch that have not ended",
        "while not empty",
        permanent=True,
    ),
    "batchseen": Key(
        "batchseen:%s:%s", "string", "when somebody was last seen to follow a tenant's batch (ms)", "25 h after that"
    ),
    "pulse": Key("pulse", "hash", "since when Redis has lived without a gap", "permanent", permanent=True),
    "turns": Key(
        "turns",
        "hash",
        "how many claims were made, for the bands' shares; which bands are paused",
        "permanent",
        permanent=True,
    ),
    "queued": Key(
        "queued:%s",
        "zset",
        "queued job ids of a band by when each could have started",
        "while not empty",
        permanent=True,
    ),
    "counters": Key("counters", "hash", "counts of all time by provider, band, simulated", "permanent", permanent=True),
    "index": Key(
        "jobs:%s:%s", "zset", "job ids of tenant, status by creation time", "ends + result_ttl_s", permanent=True
    ),
    "dead": Key("dead:%s", "zset", "failed job ids of a tenant that nobody replayed, by their end", "result_ttl_s"),
    "buried": Key("buried", "zset", "the dead letters of all tenants, by their end", "result_ttl_s"),
    "budgets": Key("budgets", "hash", "budgets by id", "permanent", permanent=True),
    "alerts": Key(
        "alerts", "zset", "budgets' alerts by when to tell of them (again)", "while not empty", permanent=True
    ),
    "alert": Key("alert:%s", "hash", "an alert that is not delivered yet", "7 d"),
    "spend": Key(
        "spend:%s:%s:%s",
        "hash",
        "what a budget has spent and reserved in a period (real, simulated)",
        "90 d after the last change",
    ),
    "spend_total": Key(
        "spent:%s:%s", "hash", "the same of a budget over all time", "until it is deleted", permanent=True
    ),
    "ledger": Key("ledger:%s", "stream", "a tenant's ledger, one row a try, by time", "400 d, newest 500,000"),
    "roll": Key("roll:%s:%s:%s:%s", "hash", "sums of an hour or day of tenant, dimensions", "35 d or 400 d"),
    "rolls": Key("rolls:%s:%s:%s", "set", "the dimensions that have sums in that hour or day", "35 d or 400 d"),
    "channel": Key("ch:%s", "channel", "frames as they are written, by shard of the job id", "Pub/Sub"),
    "control": Key("ctl", "channel", "job ids whose workers must look at them now", "Pub/Sub"),
    "apikeys": Key("apikeys", "hash", "SHA-256 of an API key -> its record", "permanent", permanent=True),
    "revoked": Key("revoked", "zset", "API keys that were revoked, by when: their event streams end", "1 h each"),
    "secrets": Key("secrets", "hash", "HMAC secrets, made once", "permanent", permanent=True),
    "clock": Key("clock", "string", "the time that a queue is told while its past is written", "until then", True),
    "lapses": Key("lapses", "zset", "keys of that past by when they lapse", "until then", True),
}


OURS: Final = "onceq:"
"""What the keys of all queues begin with."""


def root(queue: str) -> str:
    """The prefix that all keys of a queue share, with its hash tag."""
    return f"{OURS}{{{queue}}}:"


def shard(job_id: str) -> int:
    """The channel number of a job, 0..63; `shard` in lua/_base.lua is its twin."""
    return int(job_id[-2:], 16) % CHANNELS


class Keys:
    """Builds the keys of one queue."""

    def __init__(self, queue: str) -> None:
        self.root = root(queue)

    def __call__(self, name: str, *args: object) -> str:
        """The key of a family with its arguments."""
        return self.root + KEYS[name].pattern % args

    def permanent(self, key: str) -> bool:
        """Whether this key is one that may have no lifetime of its own."""
        rest = key.removeprefix(self.root)
        return any(k.permanent and _matches(k.pattern, rest) for k in KEYS.values())


def _matches(pattern: str, key: str) -> bool:
    head, _, tail = pattern.partition("%s")
    return key == head if not tail and "%s" not in pattern else key.startswith(head)


def lua_builders() -> str:
    """One Lua function a key family, put before every script."""
    lines: list[str] = []
    for name, key in KEYS.items():
        parts = key.pattern.split("%s")
        args = [f"a{n}" for n in range(len(parts) - 1)]
        body = "..".join(["P", f"'{parts[0]}'", *(f"{a}..'{p}'" for a, p in zip(args, parts[1:], strict=True))])
        lines.append(f"local function k_{name}({', '.join(args)}) return {body} end")
    return "\n".join(lines)
