"""Who may do what: keys, scopes, and tenants as walls (another tenant's job looks like one that never was)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from onceq.wire import Scope
from onceq_service.store import open_store
from onceq_service.store.apikeys import MOST_OF_A_TENANT
from tests.service.api.kit import JOBS, Http, ask, http, problem_of, read_until
from tests.service.cli.conftest import Shell
from tests.stack import Stack
from tests.waiting import wait_until


@pytest.fixture
def stranger(shared: Stack, tenant: str) -> Generator[Http]:
    """Another tenant with every scope but the operator's."""
    with http(shared, f"{tenant}-stranger", "admin") as opened:
        yield opened


OF_A_JOB = [
    ("GET", ""), ("GET", "/events"), ("GET", "/ledger"), ("GET", "/request"), ("POST", "/cancel"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "what"), OF_A_JOB)
def test_another_tenants_job_looks_like_one_that_never_was(
    client: Http, stranger: Http, method: str, what: str
) -> None:
    job_id, never = client.submit(ask(ttft_ms=500))["id"], "job_" + "0" * 32
    theirs = problem_of(stranger.request(method, f"{JOBS}/{job_id}{what}"), 404, "job_not_found")
    nobodys = problem_of(stranger.request(method, f"{JOBS}/{never}{what}"), 404, "job_not_found")
    assert theirs.detail.replace(job_id, never) == nobodys.detail
    assert client.job(job_id, wait=30).status == "succeeded", "and a stranger's cancel does nothing"


def test_a_tenant_sees_its_own_jobs_counts_and_keys_alone(client: Http, stranger: Http) -> None:
    job = client.done(ask())
    assert client.ids() == [job.id]
    assert stranger.ids() == []
    assert stranger.get("/v1/stats").json()["depth"]["succeeded"] == 0
    assert [key["tenant"] for key in stranger.get("/v1/keys").json()["keys"]] == [_tenant_of(stranger)]


def _tenant_of(client: Http) -> str:
    return client.get("/v1/keys").json()["keys"][0]["tenant"]


NEEDS: list[tuple[str, str, Scope]] = [
    ("POST", "/v1/jobs", "submit"),
    ("POST", "/v1/jobs/batch", "submit"),
    ("GET", "/v1/jobs", "read"),
    ("GET", "/v1/jobs/x", "read"),
    ("GET", "/v1/jobs/x/events", "read"),
    ("GET", "/v1/jobs/x/ledger", "read"),
    ("GET", "/v1/jobs/x/request", "read"),
    ("GET", "/v1/stats", "read"),
    ("GET", "/v1/models", "read"),
    ("POST", "/v1/jobs/x/cancel", "cancel"),
    ("GET", "/v1/keys", "admin"),
    ("POST", "/v1/keys", "admin"),
    ("DELETE", "/v1/keys/x", "admin"),
    ("GET", "/metrics", "operator"),
]


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
def test_a_route_needs_its_scope(shared: Stack, method: str, path: str, scope: Scope) -> None:
    others: list[Scope] = [s for s in ("submit", "read", "cancel") if s != scope]
    with http(shared, "scopes", *others) as without, http(shared, "scopes", scope) as with_it:
        refused = problem_of(_call(without, method, path), 403, "forbidden")
        assert f"the scope {scope}" in refused.detail
        assert _call(with_it, method, path).status_code in (200, 404, 422), "past the door"


def _call(client: Http, method: str, path: str) -> httpx2.Response:
    body: dict[str, Any] = {"json": {}} if (method, path) in (("POST", "/v1/jobs"), ("POST", "/v1/jobs/batch")) else {}
    if (method, path) == ("POST", "/v1/keys"):
        body = {"json": {"name": ""}}
    return client.request(method, path, **body)


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
def test_no_route_is_open_without_a_key(shared: Stack, method: str, path: str, scope: Scope) -> None:
    answer = httpx2.request(method, shared.url + path)
    problem = problem_of(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "onceq keys create" in problem.detail


WRONG = ["Bearer oq_unknown", "Bearer", "Basic dXNlcjpwYXNz", "oq_unknown", "Bearer oq_ x", "Bearer é" * 200]


@pytest.mark.parametrize("sent", WRONG, ids=range(len(WRONG)))
def test_a_key_that_is_not_one_is_a_401(shared: Stack, sent: str) -> None:
    answer = httpx2.get(shared.url + JOBS, headers=[(b"authorization", sent.encode())])
    problem_of(answer, 401, "unauthorized")


def test_a_key_may_come_as_x_api_key_and_bearer_in_any_case(shared: Stack, tenant: str) -> None:
    secret = shared.key(tenant)
    for headers in ({"x-api-key": secret}, {"authorization": f"bearer {secret}"}):
        assert httpx2.get(shared.url + JOBS, headers=headers).status_code == 200


def test_a_key_is_shown_once_works_and_is_stored_as_a_hash(shared: Stack, client: Http) -> None:
    made = client.post("/v1/keys", json={"name": "ci", "scopes": ["read", "read"]})
    assert made.status_code == 201
    key = made.json()
    assert (key["name"], key["scopes"]) == ("ci", ["read"])
    with Http(shared.url, key["secret"]) as user:
        assert user.get(JOBS).status_code == 200
        problem_of(user.post_json(ask()), 403, "forbidden")
    listed = client.get("/v1/keys")
    assert key["secret"] not in listed.text
    assert key["id"] in listed.text
    assert key["secret"].encode() not in asyncio.run(everything_in_redis(shared))


async def everything_in_redis(stack: Stack) -> bytes:
    """The hash of keys as Redis holds it."""
    async with open_store(stack.redis.url, stack.queue) as store:
        return repr(await store.api_keys.list()).encode() + repr(await _raw_keys(store)).encode()


async def _raw_keys(store: Any) -> object:
    return await store.api_keys._pipe.command("HGETALL", store.redis_keys("apikeys"))


def test_a_revoked_key_is_refused_at_once_here_and_soon_on_the_other_replica(
    shared: Stack, replica: str, client: Http
) -> None:
    key = client.post("/v1/keys", json={"name": "short-lived"}).json()
    with Http(shared.url, key["secret"]) as here, Http(replica, key["secret"]) as there:
        assert (here.get(JOBS).status_code, there.get(JOBS).status_code) == (200, 200)
        assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
        problem_of(here.get(JOBS), 401, "unauthorized")
        wait_until(lambda: there.get(JOBS).status_code == 401, "the other replica to forget the key")
    problem_of(client.delete(f"/v1/keys/{key['id']}"), 404, "not_found")


@pytest.mark.parametrize("where", ["here", "there"])
def test_streams_of_a_revoked_key_end_and_those_of_others_go_on(
    shared: Stack, replica: str, client: Http, where: str
) -> None:
    key = client.post("/v1/keys", json={"name": "short-lived"}).json()
    path = f"{JOBS}/{client.submit(ask(ttft_ms=60_000))['id']}/events"
    url = shared.url if where == "here" else replica
    with Http(url, key["secret"]) as theirs, Http(url, client.headers["authorization"].split()[1]) as ours:
        with theirs.stream("GET", path) as ended, ours.stream("GET", path) as other:
            pieces = ended.iter_text()
            read_until(pieces, lambda said: "event: started" in said, "the call's begin")
            assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
            with pytest.raises(httpx2.TransportError):
                list(pieces)
            client.post(path.replace("/events", "/cancel"))
            assert "event: cancelled" in "".join(other.iter_text())
        problem_of(theirs.get(path), 401, "unauthorized")


def test_a_wait_that_began_before_its_key_was_revoked_tells_nothing(shared: Stack, replica: str, client: Http) -> None:
    key = client.post("/v1/keys", json={"name": "short-lived"}).json()
    path = f"{JOBS}/{client.submit(ask(ttft_ms=60_000))['id']}"
    with Http(replica, key["secret"]) as theirs, ThreadPoolExecutor() as pool:
        assert theirs.get(path).status_code == 200, "from here on the replica trusts it for a while"
        assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
        waits = pool.submit(theirs.get, path, params={"wait": 30})
        wait_until(lambda: theirs.get(path).status_code == 401, "the replica to hear of it")
        client.post(f"{path}/cancel")
        problem_of(waits.result(), 401, "unauthorized")


def test_an_admin_makes_and_revokes_keys_of_its_own_tenant_alone(
    shared: Stack, client: Http, stranger: Http, tenant: str
) -> None:
    for body in ({"tenant": tenant}, {"scopes": ["operator"]}, {"scopes": ["read", "operator"]}):
        problem_of(stranger.post("/v1/keys", json=body), 403, "forbidden")
    mine = client.post("/v1/keys", json={"name": "mine"}).json()
    problem_of(stranger.delete(f"/v1/keys/{mine['id']}"), 404, "not_found")
    with Http(shared.url, mine["secret"]) as still:
        assert still.get(JOBS).status_code == 200


def test_only_an_operator_sees_which_workers_there_are(shared: Stack, client: Http, tenant: str) -> None:
    with http(shared, tenant, "read") as reader:

        def both() -> tuple[dict[str, Any], dict[str, Any]] | None:
            seen, told = (one.get("/v1/stats").json() for one in (client, reader))
            assert [worker["host"] for worker in seen["workers"]]
            assert told["workers"] == []
            return (seen, told) if told["fleet"] == seen["fleet"] else None

        _, told = wait_until(both, "both to see the fleet as of the same beat")
    assert (told["fleet"]["processes"], told["fleet"]["capacity"]) == (1, 32)


def test_an_admin_does_not_revoke_an_operators_key(shared: Stack, client: Http, tenant: str) -> None:
    operators = next(key for key in client.get("/v1/keys").json()["keys"] if key["tenant"] == tenant)
    with http(shared, tenant, "admin") as admin:
        problem_of(admin.delete(f"/v1/keys/{operators['id']}"), 403, "forbidden")
    assert client.get(JOBS).status_code == 200


def test_an_operator_makes_lists_and_revokes_keys_of_any_tenant(shared: Stack, client: Http, tenant: str) -> None:
    made = client.post("/v1/keys", json={"name": "theirs", "tenant": f"{tenant}-new", "scopes": ["admin"]}).json()
    assert made["tenant"] == f"{tenant}-new"
    assert made["id"] in {key["id"] for key in client.get("/v1/keys").json()["keys"]}
    assert client.delete(f"/v1/keys/{made['id']}").status_code == 204


WRONG_KEYS: list[Any] = [
    {"name": ""}, {"scopes": []}, {"scopes": ["root"]}, {"scopes": "read"}, {"tenant": "a b"}, {"tenant": ""},
    {"secret": "oq_mine"}, [], 7,
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG_KEYS, ids=range(len(WRONG_KEYS)))
def test_a_wrong_key_request_is_a_422_and_makes_none(client: Http, body: Any) -> None:
    before = client.get("/v1/keys").json()
    problem_of(client.post("/v1/keys", json=body), 422, "invalid_request")
    assert client.get("/v1/keys").json() == before


def test_a_tenant_has_a_thousand_keys_at_most(shared: Stack, tenant: str, stranger: Http, tmp_path: Path) -> None:
    shell = Shell(tmp_path, ONCEQ_REDIS_URL=shared.redis.url, ONCEQ_QUEUE=shared.queue)
    with http(shared, tenant, "admin") as admin:
        asyncio.run(_make_keys(shared, tenant, MOST_OF_A_TENANT - 2))
        last = admin.post("/v1/keys", json={"name": "the last one"})
        assert last.status_code == 201
        problem = problem_of(admin.post("/v1/keys", json={"name": "one more"}), 409, "too_many_keys")
        assert tenant in problem.detail
        assert "1,000" in problem.detail
        told = shell("keys", "create", "--tenant", tenant)
        assert (told.returncode, told.stdout, told.stderr) == (1, "", f"onceq: {problem.detail}\n")
        assert stranger.post("/v1/keys", json={}).status_code == 201, "another tenant has its own"
        assert admin.delete(f"/v1/keys/{last.json()['id']}").status_code == 204
        assert admin.post("/v1/keys", json={"name": "in its place"}).status_code == 201


async def _make_keys(stack: Stack, tenant: str, many: int) -> None:
    async with open_store(stack.redis.url, stack.queue) as store:
        await asyncio.gather(*(store.api_keys.create(tenant=tenant, name="n", scopes=["read"]) for _ in range(many)))
