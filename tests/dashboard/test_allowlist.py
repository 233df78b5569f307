"""Who a sign-in by name admits: those on the list whose address the provider has verified, and nobody else."""

from __future__ import annotations

import pytest

from onceq_dashboard.allowlist import Person, find_person

PEOPLE = {"Ann@Example.com": "oq_ann", "*@example.com": "", "*@partner.example": "oq_partner"}


def claims(email: object, verified: object = True) -> dict[str, object]:
    return {"email": email, "email_verified": verified, "name": "Somebody"}


@pytest.mark.parametrize(
    ("email", "person"),
    [("ann@example.com", Person("ann@example.com", "oq_ann")), ("ANN@EXAMPLE.COM", Person("ann@example.com", "oq_ann")),
     ("bob@example.com", Person("bob@example.com", None)),
     ("x@partner.example", Person("x@partner.example", "oq_partner")),
     ],
)  # fmt: skip
def test_who_is_on_the_list_is_let_in_and_the_own_line_comes_before_the_domain_s(email: str, person: Person) -> None:
    assert find_person(claims(email), PEOPLE) == person


@pytest.mark.parametrize(
    "email",
    ["eve@evil.example", "eve@sub.example.com", "ann@example.com@evil.example", "example.com", "", None, "@example.org",
     "*@evil.example", "ann@example.com\n@evil.example"],
)  # fmt: skip
def test_who_is_not_on_the_list_is_not_let_in(email: object) -> None:
    assert find_person(claims(email), PEOPLE) is None


@pytest.mark.parametrize("verified", [False, None, "false", "", 0])
def test_an_address_that_nobody_has_verified_admits_nobody_unless_it_is_trusted(verified: object) -> None:
    assert find_person(claims("ann@example.com", verified), PEOPLE) is None
    assert find_person({"email": "ann@example.com"}, PEOPLE) is None
    assert find_person(claims("ann@example.com", verified), PEOPLE, unverified=True) is not None


def test_an_empty_list_admits_nobody() -> None:
    assert find_person(claims("ann@example.com"), {}) is None
