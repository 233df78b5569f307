"""Users of a Redis that may not do everything, as hosts of Redis and careful operators make them."""

from __future__ import annotations

from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis


def as_user(redis: EmbeddedRedis, name: str, rules: str) -> str:
    """The URL of a user with these ACL rules beside all keys and channels; its password is `hidden-word`."""
    answer = ask_redis(redis.socket, f"ACL SETUSER {name} reset on >hidden-word ~* &* {rules}", timeout_s=20)
    assert (answer or "").startswith("+OK"), answer
    return redis.url.replace("unix://", f"unix://{name}:hidden-word@")
