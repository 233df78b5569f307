"""W8: a page follows one job with a token in the URL, and nothing else: no other job, no other route, not later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

import httpx2
import pytest

from onceq_service.api import stream_token
from onceq_service.store import Hasher, open_store
from tests.service.api.kit import JOBS, Http, ask, read_until
from tests.stack import Stack


@pytest.fixture
def page(shared: Stack) -> Generator[httpx2.Client]:
    """A browser: no header of ours."""
    with httpx2.Client(base_url=shared.url, timeout=30) as browser:
        yield browser


def token_url(client: Http, job_id: str) -> str:
    answer = client.post(f"{JOBS}/{job_id}/stream-token")
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["url"]


def test_a_token_streams_its_job(client: Http, page: httpx2.Client) -> None:
    job = client.done(ask("watched"))
    answer = page.get(token_url(client, job.id))
    assert answer.status_code == 200
    assert answer.text.rstrip().splitlines()[-2] == "event: succeeded"


def test_a_token_goes_on_from_where_the_page_was(client: Http, page: httpx2.Client) -> None:
    job = client.done(ask("resumed"))
    url = token_url(client, job.id)
    last = page.get(url).text.rstrip().split("\n\n")[-1].splitlines()[0].removeprefix("id: ")
    assert page.get(url, headers={"last-event-id": last}).status_code == 204


def test_a_token_of_one_job_opens_no_other_one(client: Http, page: httpx2.Client) -> None:
    one, other = client.done(ask("one")), client.done(ask("other"))
    url = token_url(client, one.id).replace(one.id, other.id)
    answer = page.get(url)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["", "/ledger", "/request", "/cancel", "/replay", "/stream-token"])
def test_a_token_opens_no_other_route(client: Http, page: httpx2.Client, path: str) -> None:
    job = client.done(ask("elsewhere"))
    token = token_url(client, job.id).partition("?")[2]
    method = "POST" if path in {"/cancel", "/replay", "/stream-token"} else "GET"
    assert page.request(method, f"{JOBS}/{job.id}{path}?{token}").status_code == 401


@pytest.mark.parametrize("change", ["expiry", "tenant", "key", "signature", "empty", "garbage"])
def test_a_token_that_was_changed_is_worth_nothing(client: Http, page: httpx2.Client, change: str) -> None:
    job = client.done(ask("forged"))
    expiry, tenant, key, signature = token_url(client, job.id).partition("token=")[2].split(".")
    forged = {
        "expiry": f"{int(expiry) + 3600}.{tenant}.{key}.{signature}", "tenant": f"{expiry}.default.{key}.{signature}",
        "key": f"{expiry}.{tenant}.key_0.{signature}", "signature": f"{expiry}.{tenant}.{key}.{'0' * 40}", "empty": "",
        "garbage": "%ff.\u0661.x",
    }[change]  # fmt: skip
    assert page.get(f"{JOBS}/{job.id}/events", params={"token": forged}).status_code == 401


def test_a_token_of_a_minute_ago_opens_nothing(client: Http, page: httpx2.Client, shared: Stack, tenant: str) -> None:
    job = client.done(ask("late"))
    old = asyncio.run(signed(shared, job.id, tenant, int(time.time()) - 1))
    assert page.get(f"{JOBS}/{job.id}/events", params={"token": old}).status_code == 401
    fresh = asyncio.run(signed(shared, job.id, tenant, int(time.time()) + 9))
    assert page.get(f"{JOBS}/{job.id}/events", params={"token": fresh}).status_code == 200


async def signed(shared: Stack, job_id: str, tenant: str, expires: int) -> str:
    async with open_store(shared.redis.url, shared.queue) as store:
        hasher: Hasher = await store.hasher("stream")
        claims = stream_token.TokenClaims(expires, tenant, "key_1")
        return stream_token._write(hasher, job_id, claims)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_token_is_worth_no_more_than_the_key_that_asked_for_it(
    shared: Stack, replica: str, client: Http, where: str
) -> None:
    key = client.post("/v1/keys", json={"name": "short-lived"}).json()
    job_id = client.submit(ask(ttft_ms=60_000))["id"]
    with Http(shared.url, key["secret"]) as theirs:
        path = token_url(theirs, job_id)
    with httpx2.Client(base_url=shared.url if where == "here" else replica, timeout=30) as browser:
        with browser.stream("GET", path) as open_one:
            pieces = open_one.iter_text()
            read_until(pieces, lambda said: "event: started" in said, "the call's begin")
            assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
            with pytest.raises(httpx2.TransportError):
                list(pieces)
        assert browser.get(path).status_code == 401
    client.post(f"{JOBS}/{job_id}/cancel")


def test_another_tenant_gets_no_token_for_the_job(client: Http, shared: Stack) -> None:
    job = client.done(ask("walled"))
    with Http(shared.url, shared.key("stranger")) as stranger:
        assert stranger.post(f"{JOBS}/{job.id}/stream-token").status_code == 404


async def test_a_new_secret_ends_the_tokens_of_the_one_before(shared: Stack) -> None:
    async with open_store(shared.redis.url, f"{shared.queue}x") as store:
        before = await store.hasher("stream")
        hmac = (await store.hasher())(b"a")
        await store.new_secret("stream")
        after = await store.hasher("stream")
        assert before(b"a") != after(b"a")
        assert (await store.hasher())(b"a") == hmac, "fingerprints stay"


@pytest.mark.parametrize("query", ["?token=", "?xtoken=1", "?token=not-one"])
def test_an_api_key_that_is_sent_is_what_counts(client: Http, query: str) -> None:
    job = client.done(ask("by key"))
    assert client.get(f"{JOBS}/{job.id}/events{query}").status_code == 200


def test_a_token_that_is_refused_says_how_a_key_is_sent(client: Http, page: httpx2.Client) -> None:
    job = client.done(ask("refused"))
    answer = page.get(f"{JOBS}/{job.id}/events?token=not-one")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_password_of_a_proxy_is_no_api_key(client: Http, page: httpx2.Client) -> None:
    """A browser sends it by itself, as it was asked for by what stands before us."""
    job = client.done(ask("behind a proxy"))
    assert page.get(token_url(client, job.id), auth=("someone", "secret")).status_code == 200
