"""Who may look. The key of the server is for whoever sits at this machine; everybody else brings one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import onceq_dashboard
from onceq_dashboard.access import ApiAccess, SourceError
from tests.dashboard import fake_api
from tests.dashboard.fake_api import KEY, FakeApi
from tests.dashboard.pages import callouts, tiles

APP = str(Path(onceq_dashboard.__file__).with_name("app.py"))
OpenApp = Callable[..., AppTest]


@pytest.fixture
def open_app(api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenApp:
    """The whole app, as a server with these settings runs it."""

    def run(
        address: str = "127.0.0.1", key: str = KEY, headers: dict[str, str] | None = None,
        claims: dict[str, object] | None = None, people: dict[str, str] | None = None, opened: str = "1",
    ) -> AppTest:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ONCEQ_DASHBOARD_OPEN", opened)
        monkeypatch.setenv("ONCEQ_BASE_URL", api.url)
        monkeypatch.setenv("ONCEQ_API_KEY", key)
        monkeypatch.setattr(st, "get_option", {"server.address": address}.get)
        monkeypatch.setattr(type(st.context), "headers", headers or {})
        app = AppTest.from_file(APP, default_timeout=20)
        if people is not None:
            app.secrets["auth"] = {"client_id": "dashboard", "google": {"client_id": "x"}}
            app.secrets["onceq"] = {"people": people}
            monkeypatch.setattr(st, "user", User(claims or {}))
        return app.run()

    return run


class User(dict[str, object]):
    """What Streamlit knows of who signed in."""

    def to_dict(self) -> dict[str, object]:
        return dict(self)


def asked(app: AppTest) -> bool:
    return [t.label for t in app.text_input] == ["API key"]


def test_on_loopback_the_server_s_own_key_opens_the_pages_where_that_was_asked_for(open_app: OpenApp) -> None:
    app = open_app()
    assert tiles(app)["Queued"] == "17"
    assert "Sign out" not in labels(app)


def test_without_being_asked_to_the_server_s_own_key_opens_nothing_as_a_proxy_may_not_say_it_is_one(
    open_app: OpenApp,
) -> None:
    app = open_app(opened="")
    assert asked(app)
    assert not app.metric


@pytest.mark.parametrize("name", ["ONCEQ_DASHBOARD_HOSTS", "ONCEQ_DASHBOARD_SECRETS"])
def test_where_others_are_meant_to_come_a_key_is_asked_for_even_so(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "onceq.example.com")
    assert asked(open_app())


def labels(app: AppTest) -> list[str]:
    return [b.label for b in app.button]


ANN: dict[str, object] = {"is_logged_in": True, "email": "ann@example.com", "email_verified": True}


def test_where_a_sign_in_is_set_up_nobody_looks_without_one_not_even_on_loopback(open_app: OpenApp) -> None:
    app = open_app(claims={"is_logged_in": False}, people={"*@example.com": ""})
    assert asked(app)
    assert not app.metric
    assert labels(app)[:2] == ["Sign in by name", "Sign in with google"]


def test_who_is_on_the_list_looks_with_the_dashboard_s_key_and_is_named(open_app: OpenApp) -> None:
    app = open_app("0.0.0.0", claims=ANN, people={"*@example.com": ""})
    assert tiles(app)["Queued"] == "17"
    said = "You are here as `ann@example.com`, with what your name may do. Hours are those of UTC."
    assert said in [c.value for c in app.caption]
    assert "Sign out" in labels(app)


def test_who_was_taken_off_the_list_is_out_at_the_next_run(open_app: OpenApp) -> None:
    app = open_app("0.0.0.0", claims=ANN, people={"ann@example.com": ""})
    assert app.metric
    app.secrets["onceq"] = {"people": {}}
    app.run()
    assert not app.metric
    assert "may not look here" in callouts(app)[0]


@pytest.mark.parametrize("claims", [ANN | {"email": "eve@evil.example"}, ANN | {"email_verified": False}])
def test_who_is_not_on_the_list_sees_no_number(open_app: OpenApp, claims: dict[str, object]) -> None:
    app = open_app("0.0.0.0", claims=claims, people={"*@example.com": ""})
    assert not app.metric
    assert "may not look here" in callouts(app)[0]


def test_who_has_no_key_of_their_own_changes_nothing_whatever_the_dashboard_s_key_may(
    open_app: OpenApp, api: FakeApi
) -> None:
    api.scopes |= {"submit", "admin", "operator"}
    app = open_app("0.0.0.0", claims=ANN, people={"*@example.com": ""})
    assert "lanes_pause" not in [b.key for b in app.button]
    assert not [seen for seen in api.seen if not seen.startswith("GET ")]


def test_who_has_a_key_acts_with_it(open_app: OpenApp, api: FakeApi) -> None:
    api.scopes.add("operator")
    app = open_app("0.0.0.0", claims=ANN, people={"ann@example.com": KEY})
    app.selectbox(key="lanes_band").select("batch").run()
    app.button(key="lanes_pause").click().run()
    assert api.world.lanes.paused_bands == ["batch"]


def test_on_loopback_somebody_may_use_another_key_and_come_back(open_app: OpenApp) -> None:
    app = open_app()
    next(b for b in app.button if b.label == "Use another key").click().run()
    assert asked(app)
    assert not app.metric
    next(b for b in app.button if b.label == "Back").click().run()
    assert tiles(app)["Queued"] == "17"


def test_who_may_only_look_has_no_key_to_act_with() -> None:
    access = ApiAccess("http://x", "oq_read", "a key", looks_only=True)
    with pytest.raises(SourceError, match="You may look, and change nothing"):
        _ = access.acting
    assert access.looking == ApiAccess("http://x", "oq_read", "a key")


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "::"])
def test_where_others_can_reach_the_server_a_key_is_asked_for(open_app: OpenApp, address: str) -> None:
    app = open_app(address)
    assert asked(app)
    assert not app.metric


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip"])
def test_behind_a_proxy_a_key_is_asked_for(open_app: OpenApp, header: str) -> None:
    assert asked(open_app(headers={header: "x"}))


def test_a_wrong_key_is_refused_in_words_that_do_not_hold_it(open_app: OpenApp, api: FakeApi) -> None:
    app = open_app("0.0.0.0")
    app.text_input[0].input("oq_wrong_secret")
    app.button[0].click().run()
    assert callouts(app) == [f"onceq's API at `{api.url}` does not know the key that was typed."]
    assert not app.metric


def test_an_empty_key_is_not_sent(open_app: OpenApp, api: FakeApi) -> None:
    app = open_app("0.0.0.0")
    app.button[0].click().run()
    assert callouts(app) == ["Type a key first."]
    assert not api.seen


def test_a_right_key_opens_the_pages_and_signing_out_closes_them(open_app: OpenApp) -> None:
    app = open_app("0.0.0.0")
    app.text_input[0].input(f" {KEY} ")
    app.button[0].click().run()
    assert tiles(app)["Queued"] == "17"
    next(b for b in app.button if b.label == "Sign out").click().run()
    assert asked(app)
    assert not app.metric
    assert "onceq_typed_key" not in app.session_state


def test_a_server_key_that_is_refused_says_what_to_do(open_app: OpenApp) -> None:
    assert callouts(open_app(key="oq_old"))[0].endswith(
        "does not know the key in `ONCEQ_API_KEY`. Set it to one that `onceq keys create` made, then start the "
        "dashboard again."
    )


def test_a_door_never_prints_its_key() -> None:
    access = ApiAccess("http://x", "oq_secret", "a key")
    assert "oq_secret" not in f"{access} {access!r} {[access]}"


def test_a_key_that_is_revoked_while_the_page_is_open_leaves_the_way_to_another(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app("0.0.0.0")
    app.text_input[0].input(KEY)
    app.button[0].click().run()
    assert "Sign out" in labels(app)
    monkeypatch.setattr(fake_api, "KEY", "oq_another")
    st.cache_data.clear()
    app.run()
    assert any("key" in words for words in callouts(app))
    assert "Sign out" in labels(app)
