"""/metrics: what Prometheus reads is well formed, bounded, the same from every replica, and for operators alone."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from onceq.wire import PHASES, VERDICTS
from onceq_service.api.routes.exposition import families
from onceq_service.store import ServerFacts
from onceq_service.store.gauges import Reading, Series, Waiting
from onceq_service.store.stats import BUCKETS
from tests.service.api.kit import JOBS, MODEL, Http, ask, http, own_lane, problem_of
from tests.stack import Stack
from tests.waiting import wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
FACTS = ServerFacts("8", True, "always", 1_000, "noeviction", 250, 0, "master")
LABELS = {"band", "provider", "simulated", "disposition", "state", "kind", "code", "reason", "le", "verdict", "phase"}
PASSING = ("onceq_oldest_queued_seconds", "onceq_redis_memory_bytes", "onceq_api_streams")
"""What changes between two scrapes of a queue in which nothing happens."""


def scrape(client: Http) -> Samples:
    """All samples of a scrape, by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        assert family.type in ("gauge", "counter", "histogram")
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a family's samples with these labels."""
    return sum(v for (n, own), v in samples.items() if n == name and labels.items() <= dict(own).items())


def test_a_scrape_counts_jobs_tokens_and_money_of_simulated_work_apart(shared: Stack, client: Http) -> None:
    calm = {"model": "bedrock/amazon.nova-lite-v1:0"}  # of this provider no other test leaves a job that goes on
    before = scrape(client)
    body = ask(tokens=7) | calm
    job = client.done(body)
    client.done(ask(fault=400) | calm)
    assert client.submit(body)["disposition"] == "replayed"
    after = scrape(client)

    def grew(name: str, **labels: str) -> float:
        return total(after, name, provider="bedrock", **labels) - total(before, name, provider="bedrock", **labels)

    assert job.cost.nano_usd
    assert grew("onceq_posts_total", disposition="created") == 2
    assert grew("onceq_posts_total", disposition="replayed") == 1
    assert grew("onceq_jobs_ended_total", state="succeeded", simulated="true") == 1
    assert grew("onceq_jobs_ended_total", state="failed", simulated="true") == 1
    assert grew("onceq_tokens_total", kind="output", simulated="true") == 7
    assert round(grew("onceq_spent_usd_total", simulated="true") * 1e9) == job.cost.nano_usd
    assert round(grew("onceq_avoided_usd_total", simulated="true") * 1e9) == job.cost.nano_usd
    assert grew("onceq_ttft_seconds_count", simulated="true") == 1
    assert grew("onceq_job_seconds_count", simulated="true") == 2
    assert total(after, "onceq_spent_usd_total", simulated="false") == 0, "nothing here was real money"
    assert total(after, "onceq_durability_strict") == 1
    assert total(after, "onceq_workers") == 1


def test_what_jobs_waited_for_and_who_is_to_blame_is_told_apart(client: Http) -> None:
    before = scrape(client)
    slow = client.done(ask(ttft_ms=1_200, tokens=3))
    keyless = client.done(ask(fault=401))
    after = scrape(client)

    def grew(name: str, **labels: str) -> float:
        return total(after, name, simulated="true", **labels) - total(before, name, simulated="true", **labels)

    assert keyless.timings.verdict == "our_code"
    assert grew("onceq_job_verdicts_total", verdict="our_code") >= 1
    assert {dict(key[1])["verdict"] for key in after if key[0] == "onceq_job_verdicts_total"} == set(VERDICTS)
    for phase in PHASES:
        took = sum(getattr(job.timings.phases, f"{phase}_s") for job in (slow, keyless))
        assert grew("onceq_job_phase_seconds_total", phase=phase) >= round(took, 3) - 0.001
    assert grew("onceq_job_phase_seconds_total", phase="provider_ttft") >= 1.2


def test_every_replica_says_the_same(shared: Stack, client: Http, tenant: str, replica: str) -> None:
    client.done(ask())
    with http(shared, tenant, url=replica) as other:

        def both() -> Samples | None:
            one, two = scrape(client), scrape(other)
            same = {k: v for k, v in one.items() if k[0] not in PASSING}
            return one if same == {k: v for k, v in two.items() if k[0] not in PASSING} else None

        samples = wait_until(both, "both replicas to say the same")
    assert total(samples, "onceq_posts_total") > 0
    assert total(samples, "onceq_api_processes") >= 2


def test_only_an_operator_may_read_all_tenants_figures(shared: Stack, tenant: str) -> None:
    with http(shared, tenant, "submit", "read", "cancel", "admin") as other:
        problem_of(other.get("/metrics"), 403, "forbidden")
        other.headers.pop("authorization")
        problem_of(other.get("/metrics"), 401, "unauthorized")


def test_no_label_names_what_a_client_may_choose(client: Http, tenant: str) -> None:
    client.done(ask() | {"team": f"team-{tenant}", "user": f"user-{tenant}"})
    text = client.get("/metrics").text
    assert set(re.findall(r'(\w+)="', text)) <= LABELS
    for chosen in (tenant, MODEL.partition("/")[2]):
        assert chosen not in text


def test_a_braked_lane_is_counted_for_its_provider(client: Http, tenant: str) -> None:
    """Of Anthropic: other tests brake lanes of OpenAI, and those brakes end in between."""
    before = total(scrape(client), "onceq_lanes_braked", provider="anthropic")
    job_id = client.submit(ask(fault=429, retry_after=3_000) | own_lane(tenant))["id"]

    def braked() -> bool:
        return total(scrape(client), "onceq_lanes_braked", provider="anthropic") == before + 1

    wait_until(braked, "the lane to be braked")
    client.post(f"{JOBS}/{job_id}/cancel")


def reading(counters: dict[Series, dict[str, int]]) -> Reading:
    return Reading(
        waiting={"standard": Waiting(0, 0.0)}, running=0, delayed=0, dead_letters=0, lanes=[], paused_bands=[],
        workers=[], streams=[], counters=counters, budgets=[], at_ms=0,
    )  # fmt: skip


def test_a_histograms_buckets_add_up_and_end_at_the_edges_of_the_rollups() -> None:
    sums = {f"t{n}": 1 for n in range(BUCKETS)} | {"t_ms": 5_000}
    [ttft] = [f for f in families(reading({Series("p", "standard", simulated=False): sums}), FACTS) if "ttft" in f.name]
    buckets = [(s.labels["le"], s.value) for s in ttft.samples if s.name.endswith("_bucket")]
    assert [value for _, value in buckets] == [*range(24, 69, 4), BUCKETS]
    assert (buckets[0][0], buckets[4][0], buckets[-1][0]) == ("0.063", "1.023", "+Inf")
    assert {s.name: s.value for s in ttft.samples}["onceq_ttft_seconds_sum"] == 5.0


def test_what_has_not_happened_yet_is_there_as_a_family_without_samples_of_jobs() -> None:
    names = {family.name for family in families(reading({}), FACTS)}
    assert {"onceq_spent_usd", "onceq_jobs_ended", "onceq_dead_letters"} <= names
