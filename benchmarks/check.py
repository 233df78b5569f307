"""The check before a release: what costs how many times its floor, which is measured in the same run.

A floor is the least that the thing could cost here: uvicorn with one SET, the provider's own sending of a token, the
same step with nothing else waiting, a bare value in Redis. It is CPU and bytes, never the clock, never an absolute
figure. A bound stands about half above the most that was measured on full and on quiet machines: it misses a slow
drift, and finds a step that a change has made. Bytes and crowds hardly move with the load, so theirs are nearer.
"""

from __future__ import annotations

from typing import Final

from benchmarks.ratios import Bound, Part, Ratio

BARE: Final = "bare posts"
POSTS: Final = "posts"
DIRECT: Final = "direct"
RELAY: Final = "relay"
ALONE: Final = "1 waits"
BACKLOG: Final = "10,000 wait"
WAITING: Final = 10_000


def _each(roles: str, unit: str) -> list[str]:
    return [f"{role}_cpu_{unit}" for role in roles.split()]


def _grown(what: str, figure: str) -> Ratio:
    return Ratio(f"{what}, 10,000 waiting against 1", Part(BACKLOG, [figure]), Part(ALONE, [figure]))


BOUNDS: Final = (
    Bound(
        Ratio("API CPU a post, of bare uvicorn's with one SET",
              Part(POSTS, _each("api", "us_per_post")), Part(BARE, _each("api", "us_per_post"))),
        1.0, "0.47 on a quiet machine; twice that before what posts share was prepared",
    ),
    Bound(
        Ratio("Redis CPU a post, of one SET's",
              Part(POSTS, _each("redis", "us_per_post")), Part(BARE, _each("redis", "us_per_post"))),
        9.0, "a job, its event, its place and four indexes in one step: 2 where each SET has its own fsync, else 6",
    ),
    Bound(
        Ratio("CPU of API, Redis and worker a token, of the simulator's that sends it",
              Part(RELAY, _each("api redis worker", "ms_per_1000_tokens")),
              Part(DIRECT, _each("provider", "ms_per_1000_tokens"))),
        9.0, "a token that comes alone is read, written down, published and sent: 5 to 6",
    ),
    Bound(_grown("Redis CPU an admission", "redis_us_per_admission"), 1.5, "a sorted set is a logarithm: 1.0 to 1.1"),
    Bound(_grown("Redis CPU a claim", "redis_us_per_claim"), 1.5, "a claim reads the head of each lane: 1.0 to 1.1"),
    Bound(_grown("Redis CPU a page of 50", "redis_us_per_page_of_50"), 1.5, "a page is a bounded piece: 0.9 to 1.2"),
    Bound(
        Ratio("bytes a waiting job, of its request's as a bare value",
              Part(BACKLOG, ["bytes_per_waiting_job"]), Part(BACKLOG, ["bytes_per_bare_value"])),
        13.0, "a hash, a log, the keys by which it is found, its places: 11.3 on any machine",
    ),
)  # fmt: skip
