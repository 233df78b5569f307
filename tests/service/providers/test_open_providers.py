"""Which providers are opened, with which key, and what is said of the others."""

from __future__ import annotations

import pytest

from onceq_service.providers import missing_keys, open_providers
from onceq_service.providers.anthropic import AnthropicProvider
from onceq_service.providers.bedrock import BedrockProvider
from onceq_service.providers.openai import OpenAIProvider
from onceq_service.settings import DEFAULT_PROVIDERS, ProviderConfig, on_simulator

VLLM = ProviderConfig(kind="openai", base_url="http://vllm.internal:8000/v1")


def test_without_a_key_nothing_is_opened_and_each_variable_is_named() -> None:
    assert missing_keys(DEFAULT_PROVIDERS, {}) == {
        "openai": "OPENAI_API_KEY",
        "anthropic": "ANTHROPIC_API_KEY",
        "bedrock": "AWS_ACCESS_KEY_ID",
    }
    assert open_providers(DEFAULT_PROVIDERS, {}) == {}


def test_an_empty_key_is_no_key() -> None:
    assert "openai" in missing_keys(DEFAULT_PROVIDERS, {"OPENAI_API_KEY": ""})


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        {"AWS_PROFILE": "work"},
        {"AWS_BEARER_TOKEN_BEDROCK": "t"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"},
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2"},
        {"AWS_EC2_METADATA_DISABLED": "false"},
    ],
)
def test_bedrock_takes_each_source_of_awss_own_chain(environ: dict[str, str]) -> None:
    assert "bedrock" not in missing_keys(DEFAULT_PROVIDERS, environ)


def test_a_provider_without_a_key_variable_keeps_the_usual_one_at_the_usual_host() -> None:
    configs = {"openai": ProviderConfig(kind="openai", first_byte_s=5)}
    assert missing_keys(configs, {}) == {"openai": "OPENAI_API_KEY"}


async def test_a_server_of_ones_own_needs_no_key() -> None:
    assert missing_keys({"vllm": VLLM}, {}) == {}
    opened = open_providers({"vllm": VLLM}, {})["vllm"]
    assert isinstance(opened, OpenAIProvider)
    assert opened.base_url == VLLM.base_url
    await opened.close()


async def test_simulated_providers_need_no_key_and_use_none() -> None:
    configs = {name: on_simulator(config, "http://127.0.0.1:9") for name, config in DEFAULT_PROVIDERS.items()}
    environ = {"OPENAI_API_KEY": "sk-real", "ANTHROPIC_API_KEY": "sk-real", "OPENAI_BASE_URL": "https://gateway.test"}
    opened = open_providers(configs, environ)
    assert [type(provider) for provider in opened.values()] == [OpenAIProvider, AnthropicProvider, BedrockProvider]
    for provider in opened.values():
        assert "sk-real" not in repr(vars(provider))
        await provider.close()
    openai, anthropic = opened["openai"], opened["anthropic"]
    assert isinstance(openai, OpenAIProvider)
    assert isinstance(anthropic, AnthropicProvider)
    assert openai.base_url == "http://127.0.0.1:9/openai/v1"


async def test_the_gateway_of_the_environment_is_used_where_the_configuration_names_no_host() -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://gateway.test/v1"}
    configs = {"openai": DEFAULT_PROVIDERS["openai"], "vllm": VLLM}
    opened = open_providers(configs, environ)
    urls = [provider.price_url for provider in opened.values()]
    assert urls == ["https://gateway.test/v1", VLLM.base_url]
    for provider in opened.values():
        await provider.close()


@pytest.mark.parametrize(
    ("written", "environ", "region"),
    [
        ("eu-west-1", {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-north-1"}, "eu-west-1"),
        (None, {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-north-1"}, "eu-central-1"),
        (None, {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1"),
        (None, {}, "us-east-1"),
    ],
)
async def test_bedrock_is_asked_in_the_region_of_the_file_else_of_the_environment(
    written: str | None, environ: dict[str, str], region: str
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    opened = open_providers({"bedrock": ProviderConfig(kind="bedrock", region=written)}, keys | environ)["bedrock"]
    assert isinstance(opened, BedrockProvider)
    assert opened.base_url == f"https://bedrock-runtime.{region}.amazonaws.com"
    await opened.close()
