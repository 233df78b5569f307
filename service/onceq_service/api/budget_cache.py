"""The budgets that hold: those of the file and those made through the API, as an API process sees them.

They are read again every second, so that no post waits for them, and after each change made here. A script that is
told of a budget which has changed since says so, and the post looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from onceq_service.store import Store
from onceq_service.store.budgets import Budget, unpacked


class BudgetCache:
    """Budgets by tenant; nothing is known of those in Redis before the first `read`."""

    def __init__(self, of_file: Sequence[Budget]) -> None:
        self._file = {budget.id: budget for budget in of_file}
        self._made: Mapping[str, bytes] = {}
        self._hold(self._file.values())

    async def read(self, store: Store) -> None:
        """Looks at Redis again, and says there what the file says; raises StoreUnavailable."""
        made = await store.budgets.made()
        await store.budgets.tell(self._file, made)
        if made != self._made:
            found = {name: budget for name, value in made.items() if (budget := unpacked(value)).source == "api"}
            self._hold((found | self._file).values())
            self._made = made

    def _hold(self, budgets: Iterable[Budget]) -> None:
        self._of = _by_tenant(budgets)
        self._labels = {name: sorted({key for one in of for key in one.labels}) for name, of in self._of.items()}

    def of(self, tenant: str) -> Sequence[Budget]:
        """A tenant's budgets by name."""
        return self._of.get(tenant, ())

    def labels(self, tenant: str) -> Sequence[str]:
        """The labels that one of its budgets asks for."""
        return self._labels.get(tenant, ())

    def all(self) -> Sequence[Budget]:
        """Those of all tenants, by tenant and name."""
        return [budget for tenant in sorted(self._of) for budget in self._of[tenant]]


def _by_tenant(budgets: Iterable[Budget]) -> dict[str, list[Budget]]:
    found: dict[str, list[Budget]] = {}
    for budget in sorted(budgets, key=lambda one: one.name):
        found.setdefault(budget.tenant, []).append(budget)
    return found
