"""A lock on a data folder, so that two stacks never write into the same one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from onceq.errors import ConfigurationError


def make_folder(path: Path) -> Path:
    """The folder, absolute, made for its owner alone when it was not there; raises ConfigurationError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise ConfigurationError(f"{path} is a file, not a folder: choose another place with --data-dir.") from exc
    except OSError as exc:
        raise ConfigurationError(
            f"the data folder {path} can't be made ({exc.strerror}): choose another with --data-dir."
        ) from exc
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the data folder {path} can't be written to by this user: "
            "mend its permissions, or choose another with --data-dir."
        )
    return path.resolve()


class FolderLock:
    """Held by one process at a time; the kernel lets go when its holder dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd: int | None = None

    def acquire(self) -> None:
        """Takes the lock at once or raises ConfigurationError that names the holder."""
        folder = make_folder(self.folder)
        try:
            fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise ConfigurationError(
                f"the data folder {folder} can't be locked ({exc.strerror}): choose another with --data-dir."
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise ConfigurationError(_in_use(folder, holder)) from exc
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Lets go; the file stays, because removing it would let two processes lock two different files."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _in_use(folder: Path, holder: str) -> str:
    who = f" (process {holder})" if holder else ""
    return (
        f"the data folder {folder} is in use by another onceq{who}: stop that one, or choose another with --data-dir."
    )
