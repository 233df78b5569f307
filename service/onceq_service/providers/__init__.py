"""Providers: one file each behind one Protocol (base.py). Opened and closed by the worker, inside its event loop.

Keys are looked up here, by the name that the configuration gives, and handed to the SDK; nothing else ever holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from onceq_service.providers._progress import SEND_PROGRESS, SendProgress
from onceq_service.providers.base import CallSpec, CallStream, Cause, Clocks, Delta, Provider, ProviderError
from onceq_service.settings import ProviderConfig, ProviderKind

__all__ = [
    "SEND_PROGRESS",
    "CallSpec",
    "CallStream",
    "Cause",
    "Clocks",
    "Delta",
    "Provider",
    "ProviderError",
    "SendProgress",
    "key_source",
    "missing_keys",
    "open_providers",
]

DEFAULT_KEY: Final[Mapping[ProviderKind, str]] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The variable of a provider at its own host that names none; a server of one's own may need no key."""
BASE_URL_VARIABLE: Final[Mapping[ProviderKind, str]] = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
"""Honoured, as the SDKs do, where the configuration has no base_url: a gateway that all traffic must take."""
AWS_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
"""Any of these means that AWS's own chain will find credentials. A folder ~/.aws alone does not: nobody should be
billed for a profile that they forgot. On EC2 with an instance role set AWS_EC2_METADATA_DISABLED=false."""
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
USUAL_REGION: Final = "us-east-1"
NO_KEY: Final = "not-needed"


def missing_keys(configs: Mapping[str, ProviderConfig], environ: Mapping[str, str]) -> dict[str, str]:
    """Provider name -> the variable that it lacks, for every provider that can't be opened."""
    without = {name: config for name, config in configs.items() if key_source(config, environ) is None}
    return {name: _key_variable(config) or AWS_VARIABLES[0] for name, config in without.items()}


def key_source(config: ProviderConfig, environ: Mapping[str, str]) -> str | None:
    """Where the provider's key comes from, as a name and never a value; None where it has none and needs one."""
    variable = None if config.simulated else _key_variable(config)
    if variable is not None:
        return variable if environ.get(variable) else None
    if config.kind == "bedrock" and not config.simulated:
        return _aws_source(environ)
    return f"no key needed at {config.base_url}" if config.base_url else "no key needed"


def open_providers(configs: Mapping[str, ProviderConfig], environ: Mapping[str, str]) -> dict[str, Provider]:
    """Opens those that have a key, need none, or are simulated. Call it in the loop that will use and close them."""
    missing = missing_keys(configs, environ)
    return {name: _open(name, config, environ) for name, config in configs.items() if name not in missing}


def _key_variable(config: ProviderConfig) -> str | None:
    """None: no key is needed, or AWS's chain finds it."""
    return config.key_env or (DEFAULT_KEY.get(config.kind) if config.base_url is None else None)


def _aws_source(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "false":
        return "AWS_EC2_METADATA_DISABLED=false"
    return next((name for name in AWS_VARIABLES if environ.get(name)), None)


def _open(name: str, config: ProviderConfig, environ: Mapping[str, str]) -> Provider:
    """The SDKs are imported here: each costs a second, and a worker uses those that it has keys for."""
    match config.kind:
        case "openai":
            from onceq_service.providers import openai

            url = _base_url(config, environ) or openai.BASE_URL
            return openai.OpenAIProvider(
                name,
                api_key=_key(config, environ),
                base_url=url,
                trust_env=not config.simulated,
                can_resume=config.can_resume,
            )
        case "anthropic":
            from onceq_service.providers import anthropic

            url = _base_url(config, environ) or anthropic.BASE_URL
            return anthropic.AnthropicProvider(
                name, api_key=_key(config, environ), base_url=url, trust_env=not config.simulated
            )
        case "bedrock":
            from onceq_service.providers import bedrock

            return bedrock.BedrockProvider(
                name,
                region=_region(config, environ),
                base_url=config.base_url,
                credentials=_aws_credentials(config, environ),
                trust_env=not config.simulated,
            )
        case _:
            assert_never(config.kind)


def _key(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    variable = None if config.simulated else _key_variable(config)
    return environ[variable] if variable is not None else NO_KEY


def _base_url(config: ProviderConfig, environ: Mapping[str, str]) -> str | None:
    return config.base_url or environ.get(BASE_URL_VARIABLE[config.kind]) or None


def _region(config: ProviderConfig, environ: Mapping[str, str]) -> str:
    named = [] if config.simulated else [environ.get(name) for name in REGION_VARIABLES]
    return next(filter(None, [config.region, *named]), USUAL_REGION)


def _aws_credentials(config: ProviderConfig, environ: Mapping[str, str]) -> dict[str, str] | None:
    """None leaves it to AWS's chain."""
    if config.simulated:
        return {"aws_access_key_id": NO_KEY, "aws_secret_access_key": NO_KEY}
    if not environ.get("AWS_ACCESS_KEY_ID"):
        return None
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return {name.lower(): environ[name] for name in names if environ.get(name)}
