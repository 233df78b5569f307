"""What onceq is measured beside, where it is installed: a Node stack and LiteLLM's proxy.

The Node stack (node_stack/) is what users would build instead: BullMQ, Fastify, Redis Pub/Sub, OpenAI's SDK. Its wire
is onceq's, so the same load asks both. LiteLLM's proxy is asked as the provider is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx2
from tests.faults.deployment import free_port
from tests.stack import start, url_printed_by
from tests.waiting import wait_until

from benchmarks.deployment import COMPLETIONS, MODEL, Deployment, redis_of, simulator_of

HERE: Final = Path(__file__).parent
NODE_STACK: Final = HERE / "node_stack"
LITELLM: Final = HERE.parent / "build" / "litellm" / "bin" / "litellm"
HOW_NODE: Final = "npm install --prefix benchmarks/node_stack --no-package-lock"
HOW_LITELLM: Final = "python3 -m venv build/litellm && build/litellm/bin/pip install 'litellm[proxy]'"
MASTER_KEY: Final = "sk-bench-0123456789abcdef"


def node_version() -> str | None:
    """Of the Node stack's queue; None where it is not installed."""
    package = NODE_STACK / "node_modules" / "bullmq" / "package.json"
    return str(json.loads(package.read_text("utf-8"))["version"]) if shutil.which("node") and package.exists() else None


def litellm_version() -> str | None:
    """None where it is not installed."""
    if not LITELLM.exists():
        return None
    found = next(LITELLM.parents[1].glob("lib/python*/site-packages/litellm-*.dist-info"), None)
    return found.name.removeprefix("litellm-").removesuffix(".dist-info") if found else "of an unknown version"


@contextmanager
def node_stack(workers: int, concurrency: int) -> Generator[Deployment]:
    """The Node stack: one API process and at most one worker process, on a Redis that writes nothing to disk."""
    with redis_of(aof=False) as (redis, folder), ExitStack() as stack:
        simulator = simulator_of(stack, folder)
        env = {
            "BENCH_REDIS_URL": redis.url, "BENCH_CONCURRENCY": str(concurrency),
            "BENCH_PROVIDER_URL": f"{url_printed_by(simulator)}/openai/v1",
        }  # fmt: skip
        api = start(["node", str(NODE_STACK / "api.mjs")], env, folder / "api.log")
        stack.callback(api.stop)
        roles = {"api": api.popen.pid, "redis": redis.pid or 0}
        if workers:
            worker = start(["node", str(NODE_STACK / "worker.mjs")], env, folder / "worker.log")
            stack.callback(worker.stop)
            roles["worker"] = worker.popen.pid
        provider = url_printed_by(simulator) + COMPLETIONS
        yield Deployment(url_printed_by(api), provider, "none", roles, simulator.popen.pid, redis.url)


@contextmanager
def litellm_proxy() -> Generator[Deployment]:
    """LiteLLM's proxy as it comes, one process; its Deployment's provider is the proxy, and it has no API of jobs."""
    with redis_of(aof=False) as (redis, folder), ExitStack() as stack:
        simulator = simulator_of(stack, folder)
        config, port = folder / "litellm.json", free_port()
        config.write_text(json.dumps(_litellm_config(url_printed_by(simulator))), "utf-8")
        env = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION",
            "NO_DOCS": "True", "LITELLM_MASTER_KEY": MASTER_KEY, "PATH": f"{LITELLM.parent}{os.pathsep}{os.defpath}",
        }  # fmt: skip
        command = [str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        proxy = start(command, env, folder / "litellm.log")
        stack.callback(proxy.stop)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/health/liveliness"), "LiteLLM to listen", timeout_s=120)
        roles = {"api": proxy.popen.pid}
        yield Deployment(url, f"{url}/v1/chat/completions", "", roles, simulator.popen.pid, redis.url, MASTER_KEY)


def _litellm_config(simulator: str) -> dict[str, object]:
    model = {"model": f"openai/{MODEL}", "api_base": f"{simulator}/openai/v1", "api_key": "simulated"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "litellm_settings": {"telemetry": False, "num_retries": 2, "request_timeout": 600, "drop_params": True},
    }


def _answers(url: str) -> bool:
    with suppress(httpx2.HTTPError):
        return httpx2.get(url, timeout=5).is_success
    return False
