"""docs/operations.md: its backup is one that Redis takes back, and it tells of each scope."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from onceq.wire import SCOPES
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import running_redis

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
KEYS = 2_000


def test_a_backup_waits_for_the_rewrite_that_is_under_way_and_can_be_restored(tmp_path: Path) -> None:
    with running_redis() as redis:
        ask(redis, f"EVAL \"for n = 1, {KEYS} do redis.call('SET', n, n) end\" 0")
        ask(redis, "CONFIG SET rdb-key-save-delay 500")  # us a key: the rewrite takes a second and more
        ask(redis, "BGREWRITEAOF")
        assert "aof_rewrite_in_progress:1" in ask(redis, "INFO persistence")
        assert back_up(redis, tmp_path).splitlines() == ["OK", "OK"]
        assert "aof_rewrite_in_progress:0" in ask(redis, "INFO persistence")
        assert ask(redis, "CONFIG GET auto-aof-rewrite-percentage").split()[1] == "100"
    with EmbeddedRedis(tmp_path / "restored") as restored:
        assert ask(restored, "DBSIZE").strip() == str(KEYS)


def test_the_table_of_scopes_has_each_of_them() -> None:
    part = PAGE.partition("\n### Scopes\n")[2].partition("\n#")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)) == SCOPES


def back_up(redis: EmbeddedRedis, folder: Path) -> str:
    """Runs the page's lines for this Redis, into the folder of one that has not started; what they printed."""
    block = next(one for one in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) if "appendonlydir" in one)
    (folder / "restored" / "redis").mkdir(parents=True)
    block = re.sub(r"^REDIS=\S+", f'REDIS="redis-cli -s {redis.socket}"', block)
    block = block.replace("/var/lib/redis/", f"{redis.data_dir}/redis/").replace(
        "/backup/", f"{folder}/restored/redis/"
    )
    return told(["bash", "-euo", "pipefail", "-c", block])


def ask(redis: EmbeddedRedis, command: str) -> str:
    return told(["bash", "-c", f"redis-cli -s {redis.socket} {command}"])


def told(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
