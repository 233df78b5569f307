"""What `AsyncClient` does for those who run a tenant or the service. The twin of `_blocking/admin.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onceq import _flows
from onceq._awaiting.base import Connection
from onceq._submission import budget_change, budget_request, key_request, switch
from onceq.wire import ApiKeyInfo, Band, BudgetMode, BudgetPeriod, BudgetStatus, Health, Lanes, NewApiKey, Scope


class Admin(Connection):
    """API keys, budgets, lanes and health."""

    async def lanes(self) -> Lanes:
        """What limits and brakes the models now, and which bands are paused."""
        return await self._driver.run(_flows.lanes(self._backoff))

    async def pause(self, *, lane: str | None = None, band: Band | None = None) -> Lanes:
        """Start nothing new in a lane (a model) or a band, for all tenants; what runs goes on. Needs `operator`."""
        return await self._driver.run(_flows.switch("pause", switch(lane, band), self._backoff))

    async def resume(self, *, lane: str | None = None, band: Band | None = None) -> Lanes:
        """End a pause, and a lane's wait after a 429 or failures. Needs an API key with the scope `operator`."""
        return await self._driver.run(_flows.switch("resume", switch(lane, band), self._backoff))

    async def whoami(self) -> ApiKeyInfo:
        """The API key that this client uses: its tenant and scopes."""
        return await self._driver.run(_flows.whoami(self._backoff))

    async def keys(self) -> Sequence[ApiKeyInfo]:
        """The tenant's API keys, oldest first, without their secrets. Needs `admin`; an operator sees all tenants'."""
        return await self._driver.run(_flows.keys(self._backoff))

    async def create_key(
        self, name: str = "key", *, scopes: Sequence[Scope] = ("submit", "read", "cancel"), tenant: str | None = None
    ) -> NewApiKey:
        """Make an API key; `.secret` is told this once. Needs `admin`, and `operator` for another tenant."""
        return await self._driver.run(_flows.create_key(key_request(name, scopes, tenant)))

    async def revoke_key(self, key_id: str) -> None:
        """Take an API key back, at once or within 5 s. Needs `admin`. Raises NotFoundError."""
        await self._driver.run(_flows.revoke_key(key_id, self._backoff))

    async def budgets(self) -> Sequence[BudgetStatus]:
        """Your tenant's budgets by name, each with what is spent, reserved and left; an operator sees all tenants'."""
        return await self._driver.run(_flows.budgets(self._backoff))

    async def budget(self, budget_id: str) -> BudgetStatus:
        """One budget as it stands. Raises NotFoundError."""
        return await self._driver.run(_flows.budget(budget_id, self._backoff))

    async def create_budget(
        self,
        name: str,
        limit_usd: float,
        *,
        period: BudgetPeriod = "month",
        mode: BudgetMode = "hard",
        time_zone: str = "UTC",
        team: str | None = None,
        key: str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        alerts: Sequence[float] = (0.5, 0.8, 1.0),
        tenant: str | None = None,
    ) -> BudgetStatus:
        """Make a budget over the jobs that fit all of team, key (an API key's id), model and labels. Needs `admin`.

        It counts jobs that are posted from now on. A hard one refuses a post that may not fit (PaymentRequiredError), a
        soft one only counts and alerts. `alerts` are shares of the limit. Raises ConflictError when the name is taken.
        """
        wanted = budget_request(
            name=name, limit_usd=limit_usd, period=period, mode=mode, time_zone=time_zone, team=team, key=key,
            model=model, labels=dict(labels or {}), alerts=list(alerts), tenant=tenant,
        )  # fmt: skip
        return await self._driver.run(_flows.create_budget(wanted))

    async def change_budget(
        self,
        budget_id: str,
        *,
        limit_usd: float | None = None,
        mode: BudgetMode | None = None,
        alerts: Sequence[float] | None = None,
    ) -> BudgetStatus:
        """Change what is given, at once; what was spent stays counted. Needs `admin`. Raises NotFoundError.

        A budget of the configuration file is changed there: ConflictError.
        """
        change = budget_change(limit_usd=limit_usd, mode=mode, alerts=None if alerts is None else list(alerts))
        return await self._driver.run(_flows.change_budget(budget_id, change, self._backoff))

    async def delete_budget(self, budget_id: str) -> None:
        """Take a budget away, and what it has counted. Needs `admin`. Raises NotFoundError, ConflictError."""
        await self._driver.run(_flows.delete_budget(budget_id, self._backoff))

    async def health(self) -> Health:
        """Whether the service is ready, and what is wrong with it; asked once. Raises ConnectionFailed."""
        return await self._driver.run(_flows.health())
