"""`onceq budgets` against running processes; `onceq doctor` on the file's budgets."""

from __future__ import annotations

import json
import re

from onceq.wire import NANO, BudgetStatus, BudgetUse
from onceq_service.cli.budgets import page
from onceq_service.cli.output import usd
from onceq_service.embedded.doctor import budget_checks
from onceq_service.settings import FileConfig
from tests.service.cli.conftest import Shell


def test_a_budget_is_made_listed_changed_and_deleted_by_name(user: Shell) -> None:
    assert "no budget limits this tenant" in user.output("budgets", "list")
    said = user.output("budgets", "create", "search", "0.5", "--period", "day", "--team", "red", "--label", "project=x")
    assert "search, 0.5 USD a day, hard" in said
    assert "onceq budgets" not in said
    [budget] = json.loads(user.output("budgets", "list", "--json"))
    assert said.startswith(budget["id"])
    assert "1 USD a day, soft" in user.output("budgets", "change", "search", "--limit", "1", "--mode", "soft")
    listed = user.output("budgets")
    assert "team=red project=x" in listed
    assert "$1.000000" in listed
    user.output("budgets", "delete", budget["id"])
    assert "no budget limits this tenant" in user.output("budgets")


def test_what_is_spent_and_what_may_have_been_stand_apart_as_in_the_api() -> None:
    use = BudgetUse(spent_nano_usd=2 * NANO, reserved_nano_usd=NANO, unsure_nano_usd=3 * NANO, left_nano_usd=4 * NANO)
    budget = BudgetStatus(
        id="bud_1", tenant="default", name="all", source="api", mode="hard", period="total", time_zone="UTC",
        limit_usd="10", limit_nano_usd=10 * NANO, use=use,
    )  # fmt: skip
    head, row = (re.split(r"  +", line) for line in page([budget]))
    money = dict(zip(head, row, strict=True))
    assert {name: money[name] for name in ("LIMIT", "SPENT", "RESERVED", "UNSURE", "LEFT")} == {
        "LIMIT": usd(10 * NANO), "SPENT": usd(2 * NANO), "RESERVED": usd(NANO), "UNSURE": usd(3 * NANO),
        "LEFT": usd(4 * NANO),
    }  # fmt: skip


def test_a_wrong_budget_is_one_sentence(user: Shell) -> None:
    for arguments, says in (
        (("create", "x", "1", "--label", "project"), "KEY=VALUE"),
        (("create", "x", "1", "--time-zone", "Mars/Base"), "no time zone"),
        (("create", "x", "1", "--period", "fortnight"), "'--period': 'fortnight' is not one of 'hour', 'day'"),
        (("change", "bud_" + "0" * 20), "\n  give limit_usd, mode or alerts"),
        (("delete", "nobody"), "there is no budget named 'nobody'"),
        (("change", "bud_" + "0" * 20, "--limit", "1"), "There is no budget"),
    ):
        done = user("budgets", *arguments)
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert "Value error" not in done.stderr


def test_a_post_over_budget_says_which_and_when_it_renews(user: Shell) -> None:
    user.output("budgets", "create", "tiny", "0.000001")
    done = user("ask", "hello", "--max-tokens", "100")
    assert done.returncode != 0
    assert "Budget 'tiny' has 0.000001 of 0.000001 USD left" in done.stderr
    assert "It renews at " in done.stderr


def test_doctor_looks_at_the_budgets_of_the_file() -> None:
    file = FileConfig.model_validate(
        {
            "budgets": [
                {"name": "all", "limit_usd": 5.0, "period": "total"},
                {"name": "lost", "limit_usd": 5.0, "model": "nobody/*"},
            ],
            "alerts": {"webhook_url": "https://example.com/hook"},
        }
    )
    found = {check.name: check for check in budget_checks(file, {"openai"}, {})}
    assert {name: check.level for name, check in found.items()} == {
        "budget all": "ok", "budget lost": "fail", "alerts": "warn",
    }  # fmt: skip
    assert found["budget all"].says == "hard, 5 USD in all, tenant default"
    assert "ONCEQ_WEBHOOK_SECRET" in found["alerts"].advice
    signed = budget_checks(file, {"openai"}, {"ONCEQ_WEBHOOK_SECRET": "s"})
    assert [check.level for check in signed if check.name == "alerts"] == ["ok"]
