"""A private onceq for your own tests: Redis, API, a worker and the simulator, started and stopped with them.

With pytest, in your `conftest.py`:

    pytest_plugins = ["onceq.testing.plugin"]

and then, in a test, the fixture `onceq_client` (or `onceq_server`: see `onceq.testing.plugin`):

    def test_a_summary_is_short(onceq_client):
        job = onceq_client.submit("Summarise: ...", model="openai/gpt-4o-mini").result()
        assert len(job.text) < 500

Anywhere else:

    with onceq.testing.private_onceq() as server, server.client() as client:
        ...

The simulator answers for every provider; nothing is billed, no key is used, and no network is needed. What it shall do
is told in the prompt: `[[sim tokens=20 tps=0 ttft_ms=0]]` answers at once with 20 tokens, `[[sim fault=429 times=1]]`
refuses the first try. Needs the extra `service`.
"""

from onceq.testing._server import PrivateOnceq, private_onceq

__all__ = ["PrivateOnceq", "private_onceq"]
