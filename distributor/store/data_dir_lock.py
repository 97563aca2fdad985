"""Prevents two servers from using the same data folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

from distributor.errors import ConfigurationError

_RETRY_SECONDS: Final = 0.05


class DataDirLock:
    """An advisory lock on a folder.

    A child process that inherits `fd` also holds the lock. Valkey does: if it is still writing after its server was
    killed, it keeps the next server out until it is done.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.fd = -1

    async def acquire(self, patience_seconds: float) -> None:
        """Acquire the lock, waiting up to `patience_seconds` for its release. Raises ConfigurationError."""
        deadline = asyncio.get_running_loop().time() + patience_seconds
        self.fd = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not self._try():
                if asyncio.get_running_loop().time() > deadline:
                    raise self._taken()
                await asyncio.sleep(_RETRY_SECONDS)
        except BaseException:
            self.release()
            raise
        os.truncate(self.fd, 0)
        os.pwrite(self.fd, str(os.getpid()).encode(), 0)

    def holder(self) -> str:
        """The process id of the lock's holder; empty if it is free."""
        try:
            fd = os.open(self._data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            # Shared, so that concurrent calls do not mistake each other for the holder.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(fd)
        finally:
            os.close(fd)
        return ""

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _taken(self) -> ConfigurationError:
        holder = _holder(self.fd)
        return ConfigurationError(
            f"the data folder {self._data_dir} is in use by another server (process {holder}); "
            "stop that one or set another data_dir",
            reason="DATA_DIR_IN_USE",
            metadata={"data_dir": str(self._data_dir), "pid": holder},
        )


def _holder(fd: int) -> str:
    return os.pread(fd, 20, 0).decode("ascii", "replace") or "unknown"
