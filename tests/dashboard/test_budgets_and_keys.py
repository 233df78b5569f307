"""The pages of budgets and of API keys: seen by all who may read, changed by an admin, and never by anybody else."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from onceq import BadRequestError
from onceq.wire import BudgetAlert, BudgetUse, FieldError, Problem, Scope
from onceq_dashboard.access import ApiAccess, trouble_of
from tests.dashboard import worlds
from tests.dashboard.conftest import Open
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, tables


@pytest.fixture
def admin(api: FakeApi) -> FakeApi:
    api.scopes.add("admin")
    return api


def labels(page: AppTest) -> set[str]:
    return {button.label for button in page.button}


def submit(page: AppTest, label: str) -> AppTest:
    return next(button for button in page.button if button.label == label).click().run()


def test_each_budget_says_what_is_left_and_the_fullest_is_first(open_page: Open) -> None:
    page = open_page("budgets")
    assert tables(page)[-1]["budget"].tolist() == ["search", "day", "monthly"]
    assert any(m.value.startswith("**\\$66.50 left** · \\$31.50 spent · \\$2.00 reserved") for m in page.markdown)


def test_a_card_says_when_somebody_was_told_of_it(api: FakeApi, open_page: Open) -> None:
    alert = BudgetAlert(share=0.8, at=api.world.stats.at)
    api.world.budgets = [worlds.make_budget(use=BudgetUse(spent_nano_usd=85 * 10**9, alerts=[alert]))]
    assert any(":material/notifications: passed 80 % on " in c.value for c in open_page("budgets").caption)


def test_who_is_no_admin_is_told_so_and_is_offered_nothing(api: FakeApi, open_page: Open) -> None:
    page = open_page("budgets")
    assert not labels(page)
    assert any("lacks the scope `admin`" in c.value for c in page.caption)


def test_a_budget_is_made_with_all_that_was_typed(admin: FakeApi, open_page: Open) -> None:
    page = open_page("budgets")
    fields = {field.label: field for field in page.text_input}
    fields["Name"].input("growth")
    fields["Team"].input("growth")
    fields["Labels"].input("project=a, step=b")
    page.number_input[-1].set_value(12.5)
    submit(page, "Make budget")
    made = admin.world.budgets[-1]
    assert (made.name, made.team, made.key, made.limit_nano_usd) == ("growth", "growth", None, 12_500_000_000)
    assert made.labels == {"project": "a", "step": "b"}
    assert "growth" in tables(page)[-1]["budget"].tolist()


def test_what_the_service_refuses_is_said_and_what_was_typed_stays(admin: FakeApi, open_page: Open) -> None:
    page = open_page("budgets")
    next(f for f in page.text_input if f.label == "Name").input("monthly")
    submit(page, "Make budget")
    assert "There is a budget named 'monthly' already" in callouts(page)[0].replace("\\", "")
    assert next(f for f in page.text_input if f.label == "Name").value == "monthly"


def test_each_field_that_is_wrong_is_named_with_what_is_wrong_about_it() -> None:
    wrong = [FieldError(loc="limit_usd", message="Input should be > 0"), FieldError(loc="name", message="too *long*")]
    problem = Problem(title="", status=422, code="invalid_request", detail="2 fields are wrong", errors=wrong)
    said = trouble_of(BadRequestError(problem), ApiAccess(None, "", "")).sentence
    assert said.splitlines()[1:] == ["", "- `limit_usd`: Input should be \\> 0", "- `name`: too \\*long\\*"]


def test_a_budget_is_changed_and_deleted_and_one_of_the_file_is_not(admin: FakeApi, open_page: Open) -> None:
    page = open_page("budgets")
    assert sum(button.label == "Delete this budget" for button in page.button) == 2
    assert any("Set in `onceq.toml`" in c.value for c in page.caption)
    page.number_input[0].set_value(33.0)
    submit(page, "Change")
    assert {b.name: b.limit_nano_usd for b in admin.world.budgets}["search"] == 33_000_000_000
    submit(page, "Delete this budget")
    assert len(admin.world.budgets) == 2


def test_no_budget_says_how_to_make_one(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.empty()
    assert callouts(open_page("budgets"))[0].startswith("No budget yet")


def test_who_is_no_admin_sees_the_own_key_alone(api: FakeApi, open_page: Open) -> None:
    page = open_page("keys")
    assert "`key_1`" in page.markdown[0].value
    assert not tables(page)
    assert "GET /v1/keys" not in api.seen


@pytest.mark.parametrize("scope", ["admin", "operator"])
def test_a_scope_that_stands_for_others_opens_what_they_open(api: FakeApi, open_page: Open, scope: Scope) -> None:
    api.scopes = {scope}
    assert "Make budget" in labels(open_page("budgets"))
    assert "Make key" in labels(open_page("keys"))
    assert not [c.value for c in open_page("failures").caption if "lacks the scope" in c.value]


def test_a_key_s_secret_is_shown_once(admin: FakeApi, open_page: Open) -> None:
    page = open_page("keys")
    page.text_input[0].input("finance")
    submit(page, "Make key")
    assert [code.value for code in page.code] == ["oq_new_secret"]
    assert "finance" in tables(page)[0]["name"].tolist()
    submit(page, "I have copied it")
    assert not page.code
    assert "oq_new_secret" not in str(page.main)


def test_only_an_operator_is_offered_to_make_an_operator_s_key(admin: FakeApi, open_page: Open) -> None:
    assert len(open_page("keys").multiselect[0].options) == 4
    admin.scopes.add("operator")
    admin.forget()
    assert len(open_page("keys").multiselect[0].options) == 5


def test_a_key_is_revoked_and_never_the_one_that_is_used(admin: FakeApi, open_page: Open) -> None:
    page = open_page("keys")
    assert page.selectbox(key="keys_revoke").options == ["the notebooks' (key_2)"]
    page.selectbox(key="keys_revoke").select("key_2").run()
    submit(page, "Revoke this key")
    assert not admin.world.keys
    assert tables(page)[0]["id"].tolist() == ["key_1"]


@pytest.mark.parametrize("usd", [0.000001, 0.004, 12.345])
def test_a_budget_of_less_than_a_cent_is_shown_and_changed_like_any_other(
    admin: FakeApi, open_page: Open, usd: float
) -> None:
    admin.world.budgets = [worlds.make_budget("small", usd, 0)]
    page = open_page("budgets")
    assert not page.exception
    assert page.number_input[0].value == usd
    submit(page, "Change")
    assert admin.world.budgets[0].limit_nano_usd == round(usd * 1e9)
