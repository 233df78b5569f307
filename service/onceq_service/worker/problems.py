"""Why a worker ends a job or its call, in a sentence each: what happened, to which job, what to do next."""

from __future__ import annotations

from onceq.wire import JobError
from onceq_service.providers.base import ProviderError
from onceq_service.store.engine import Claim
from onceq_service.store.views import Fields, usd


def too_slow() -> ProviderError:
    """Of a call that took longer than the job's own clock."""
    message = "The answer was not whole within the job's timeouts.call_s. It may be billed."
    return ProviderError("provider_timeout", message, cause="timeout")


def stopped() -> ProviderError:
    """Of a call whose worker had to go."""
    return ProviderError("worker_lost", "the worker had to stop before the answer was whole", cause="broken")


def no_key(claim: Claim) -> JobError:
    """Of a job whose provider this worker has no key for."""
    name = claim.text("provider")
    message = f"this worker serves no provider {name!r}; give its key to the workers and replay job {claim.id}"
    return JobError(code="provider_key_missing", message=message, retryable=True)


def of_another_version(claim: Claim) -> JobError:
    """Of a job that was taken before the contract refused what it asks for."""
    message = f"job {claim.id} was accepted by an older onceq, and asks for what this one refuses; post it again"
    return JobError(code="invalid_request", message=message, retryable=False)


def too_expensive(claim: Claim) -> JobError:
    """Of a further call that `max_cost_usd` has no room for."""
    message = (
        f"another call could make job {claim.id} cost more than its max_cost_usd, after what the calls before it "
        "cost or may have cost; post it again with a higher max_cost_usd or a lower max_tokens"
    )
    return JobError(code="max_cost_exceeded", message=message, retryable=True)


def no_budget(claim: Claim, why: Fields) -> JobError:
    """Of a further call that a hard budget has no room for, and will have none in time."""
    named = f"budget {why['account'].decode().partition('.')[0]}"
    if "needed" not in why:
        what = f"nobody knows what another call of job {claim.id} may cost, and {named} is hard"
    else:
        what = (
            f"another call of job {claim.id} may cost {usd(int(why['needed']))} USD, and {named} has "
            f"{usd(max(0, int(why['left'])))} USD left, which does not change before the job's deadline"
        )
    message = f"{what}; replay it when the budget has room, or raise its limit"
    return JobError(code="budget_exceeded", message=message, retryable=True)


def too_late(claim: Claim) -> JobError:
    """Of a job whose deadline came first."""
    message = f"job {claim.id} had no whole answer at its deadline; post it again with a later deadline_s"
    return JobError(code="deadline_exceeded", message=message, retryable=True)
