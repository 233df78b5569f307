"""The embedded redis-server: a real one, on a unix socket, with its data in `<data_dir>/redis`.

It runs in a session of its own, so that Ctrl-C reaches only us and we decide the order of stopping. When we are
killed it lives on and keeps what was accepted; the next start on the same folder finds it and adopts it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import quote

from onceq.errors import ConfigurationError
from onceq_service.embedded.lock import FolderLock, make_folder
from onceq_service.embedded.memory import redis_maxmemory
from onceq_service.embedded.ping import ask_redis, listens
from onceq_service.embedded.redis_binary import RedisBinary, find_redis, probe
from onceq_service.embedded.waiting import wait_until

LONGEST_SOCKET: Final = 103
"""Bytes of a unix socket's path, without its closing zero, that Linux and macOS both take."""
START_S: Final = 60.0
"""How long loading its data may take it."""
STOP_S: Final = 15.0


class EmbeddedRedis:
    """One redis-server for one data folder; `start`, then `url`, then `stop` (or use it in a `with`).

    `binary` forces a server, `maxmemory` its limit in bytes (a quarter of the machine by default).
    """

    def __init__(self, data_dir: Path, *, binary: Path | None = None, maxmemory: int | None = None) -> None:
        self.data_dir = data_dir
        self.adopted = False
        self._wanted = binary
        self._maxmemory = maxmemory
        self._lock = FolderLock(data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def socket(self) -> Path:
        """Where it listens: in its folder, or in the temporary folder when that path is too long for a socket."""
        return socket_path(self.data_dir.absolute())

    @property
    def url(self) -> str:
        """What ONCEQ_REDIS_URL would say."""
        return redis_url(self.socket)

    @property
    def pid(self) -> int | None:
        """The server's process; None while it is not running."""
        return self._pid

    def start(self) -> Self:
        """Locks the folder, then adopts the server that lives there or starts one; raises ConfigurationError."""
        self._lock.acquire()
        try:
            self.data_dir = make_folder(self.data_dir)
            self.revive()
        except BaseException:
            self._lock.release()
            raise
        return self

    def revive(self) -> None:
        """Adopts or starts a server in the folder that is locked already; raises ConfigurationError."""
        folder = make_folder(self.data_dir / "redis")
        self.adopted = self._adopt()
        if not self.adopted:
            self._launch(folder)

    def alive(self) -> bool:
        """Whether the server answers; it may be loading."""
        return ask_redis(self.socket, "PING") is not None

    def gone(self) -> bool:
        """Whether the server's process has ended; one that is only slow has not."""
        if self._process is not None:
            return self._exited()
        return self._pid is None or not _signal(self._pid, None)

    def stop(self) -> None:
        """Ends the server after it has written everything down, and lets go of the folder."""
        if self._pid is not None and not self._ended(signal.SIGTERM):
            self._ended(signal.SIGKILL)  # safe: what was acknowledged is already on the disk
        self._pid = self._process = None
        self._lock.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _adopt(self) -> bool:
        """Whether a server lives here. One that is silent is waited for: two on one folder would spoil its data."""
        if not wait_until(lambda: self._known() or not listens(self.socket), START_S):
            raise ConfigurationError(
                f"A Redis listens on {self.socket} and does not answer; a second one would spoil its data. "
                "Start again when it answers, or end its process (`fuser` tells which that is) and start again."
            )
        if self._pid is None:
            self.socket.unlink(missing_ok=True)  # left by a server that was killed
        return self._pid is not None

    def _known(self) -> bool:
        """Asks the server of this folder which process it is; it can tell while it loads, too."""
        info = ask_redis(self.socket, "INFO server") or ""
        self._pid = int(_field(info, "process_id")) if info.startswith("$") else None
        return self._pid is not None

    def _launch(self, folder: Path) -> None:
        log_path = make_folder(self.data_dir / "logs") / "redis.log"
        binary = self._binary()
        with log_path.open("ab") as log:
            begin = log.tell()
            self._process = _spawn(self._arguments(binary.path, folder), log)
        self._pid = self._process.pid
        ready = wait_until(lambda: self._exited() or self._ready(), START_S)
        if not ready or self._exited():
            self._ended(signal.SIGKILL)
            self._pid = self._process = None
            raise ConfigurationError(_why_not(binary, folder, log_path, begin))

    def _binary(self) -> RedisBinary:
        if self._wanted is None:
            return find_redis()
        binary = probe(self._wanted)
        if binary is None:
            raise ConfigurationError(f"{self._wanted} is not a redis-server that runs on this machine.")
        return binary

    def _arguments(self, binary: Path, folder: Path) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-use-rdb-preamble": "no",  # plain commands: Redis and Valkey can read each other's folder
            "auto-aof-rewrite-min-size": "64mb",
            "maxmemory": str(self._maxmemory or redis_maxmemory()),
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "1024",  # its first node is taken whole: 3 KB less a waiting job
            "hash-max-listpack-value": "4096",  # a job's hash stays one piece of memory: a third less of it
            "protected-mode": "yes",
        }
        return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _ready(self) -> bool:
        return (ask_redis(self.socket, "PING") or "").startswith("+PONG")

    def _exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _ended(self, how: signal.Signals) -> bool:
        """Sends a signal and says whether the server was gone in time."""
        if self._process is not None:
            self._process.send_signal(how)  # reaps it when it has ended already
            return wait_until(self._exited, STOP_S)
        if self._pid is None or not _signal(self._pid, how):
            return True
        pid = self._pid
        return wait_until(lambda: not self.alive() and not _signal(pid, None), STOP_S)


def redis_url(socket: Path) -> str:
    """What ONCEQ_REDIS_URL says for a server on this socket."""
    return f"unix://{quote(str(socket))}"


def socket_path(data_dir: Path) -> Path:
    """The socket of a data folder; raises ConfigurationError when the temporary folder is not ours alone."""
    direct = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(direct)) <= LONGEST_SOCKET:
        return direct
    short = Path(tempfile.gettempdir()) / f"onceq-{os.getuid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    owner = short.lstat()
    if owner.st_uid != os.getuid() or not stat.S_ISDIR(owner.st_mode) or owner.st_mode & 0o077:
        raise ConfigurationError(f"{short} is not a folder of this user alone: remove it, or set TMPDIR to another.")
    return short / f"{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}.sock"


def _spawn(arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own argv
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "HOME") if name in os.environ},
    )


def _why_not(binary: RedisBinary, folder: Path, log_path: Path, begin: int) -> str:
    with log_path.open("rb") as log:
        log.seek(begin)
        lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    marked = [line.partition(" # ")[2] for line in lines if " # " in line and "WARNING" not in line]
    reason = (marked or lines or ["it said nothing"])[-1]
    return (
        f"{binary.name} could not start on {folder}: {reason} "
        f"(whole log: {log_path}). Mend it, or choose another folder with --data-dir."
    )


def _field(info: str, name: str) -> str:
    return next(line.partition(":")[2] for line in info.splitlines() if line.startswith(f"{name}:"))


def _signal(pid: int, how: signal.Signals | None) -> bool:
    """Whether there was such a process to signal (None only asks); one that is dead but not yet reaped is gone."""
    try:
        os.kill(pid, how or 0)
    except ProcessLookupError:
        return False
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False  # no /proc here: the parent of an adopted server is init, which reaps
