"""Runs a private Valkey server, with the same guarantees as an external one, so there is no service to set up."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from valkey.asyncio import Valkey
from valkey.exceptions import ConnectionError as ValkeyConnectionError

from distributor.errors import ConfigurationError
from distributor.observability.logging import get_logger
from distributor.private_file import replace_file
from distributor.processes.child_process import ChildProcess
from distributor.processes.supervisor import RestartBudget, Supervisor
from distributor.store.allocator import Allocator, find_allocator
from distributor.store.append_only_files import AppendOnlyFiles
from distributor.store.data_dir_lock import DataDirLock
from distributor.store.fsync_cadence import FsyncCadence, SyncObserver
from distributor.store.server_binary import ServerBinary, find_server_binary
from distributor.store.valkey_connection import ValkeyConnection

logger = get_logger()

START_TIMEOUT_SECONDS: Final = 60.0
"""Enough to load an append-only file of several gigabytes."""
STOP_TIMEOUT_SECONDS: Final = 20.0
LOCK_PATIENCE_SECONDS: Final = 2.0
MAX_SOCKET_PATH_BYTES: Final = 107
"""Size of `sun_path` of a Unix socket without the terminating zero byte."""

_REMEDIES: Final = {
    errno.EACCES: "its files must belong to this user: set another data_dir, or change their owner",
    errno.EPERM: "its files must belong to this user: set another data_dir, or change their owner",
    errno.EROFS: "set another data_dir",
    errno.ENOSPC: "free some space, or set another data_dir",
    errno.EDQUOT: "free some space, or set another data_dir",
    errno.EEXIST: "a file has its name: set another data_dir",
}

_EXIT_FAILURE: Final = 1
"""Exit code of a server that cannot use its configuration or its data."""
_PING_INTERVAL_SECONDS: Final = 0.01
_LOG_LINES_SHOWN: Final = 5

# With a larger `stream-node-max-bytes`, Valkey up to 9.1.2 preallocates 4 KiB for the last node of a stream, and
# shrinks it before it adds another. If that moves it, the new node may end up at its old address, and Valkey then keeps
# a pointer to freed memory (https://github.com/valkey-io/valkey/issues/4705): it aborts, hangs or loses events.
_CONFIG: Final = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{data_dir}"
appendonly yes
appendfsync no
stream-node-max-bytes 1
auto-aof-rewrite-min-size 256mb
save ""
maxmemory-policy noeviction
daemonize no
always-show-logo no
"""


_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    # Where glibc's allocator is not replaced: by default it caches only seven free blocks per size. Each call frees and
    # allocates hundreds: a larger cache cuts a command from 84 to 60 µs of Valkey CPU time (docs/decisions/).
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=30000",
}


class EmbeddedValkey:
    """One `valkey-server` process with its data in `data_dir`, reachable by this process at `url`.

    It runs in its own session, so that Ctrl-C in the terminal reaches only this process, which drains before it stops
    Valkey. If this process is killed, Valkey ends too. The thread that calls `start` must outlive the server: Linux
    treats the end of that thread as the death of the parent. `start` may be called again after `stop`, with the same
    data and url. The bundled server runs with the allocator of the `embedded` extra if it is there and works.

    Valkey writes each change to its append-only file before it answers, and this process fsyncs that file once a
    second: with `everysec`, Valkey would answer up to two seconds before it writes while its disk is slow.
    """

    def __init__(
        self,
        data_dir: Path,
        lock_patience_seconds: float = LOCK_PATIENCE_SECONDS,
        *,
        started: Callable[[str, str], None] | None = None,
        synced: SyncObserver | None = None,
        find_allocator: Callable[[], Allocator | None] = find_allocator,
    ) -> None:
        """`lock_patience_seconds` bounds the wait for a previous server to release the folder.

        `started` receives the version and the allocator of the server each time it has started, `synced` how long each
        fsync took and whether it failed.
        """
        self._data_dir = data_dir.absolute()
        self._socket = self._data_dir / "valkey.sock"
        self.log = self._data_dir / "valkey.log"
        """Its log. The log of the previous run is kept beside it."""
        self._password = secrets.token_hex(32)
        self._lock_patience_seconds = lock_patience_seconds
        self._lock = DataDirLock(self._data_dir)
        self._process: ChildProcess | None = None
        self._started = started
        self._find_allocator = find_allocator
        self._allocator: Allocator | None = None
        """What to run the bundled server with, until it turns out not to work."""
        self.cadence = FsyncCadence(
            AppendOnlyFiles(self._data_dir / "appendonlydir"), self._rewrite, synced or _unobserved
        )
        """Writes its data through to the disk while it runs."""
        self.version = ""
        """The version of the server that was started last."""
        self.allocator = ""
        """The allocator it runs with, such as `mimalloc-3.4.3`; `libc` for that of the C library."""

    @property
    def url(self) -> str:
        """Its address, including the password: do not log it."""
        return f"unix://:{self._password}@{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Return once the server answers. Raises ConfigurationError with the cause if it does not."""
        if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH_BYTES:
            limit = MAX_SOCKET_PATH_BYTES - len(self._socket.name) - 1
            raise ConfigurationError(f"data_dir must be at most {limit} bytes long, not {self._data_dir}")
        binary = find_server_binary()
        with _data_dir_errors(self._data_dir):
            self._prepare_data_dir()
            await self._lock.acquire(self._lock_patience_seconds)
        self._allocator = self._find_allocator()
        await self._launch(binary)

    async def ended(self) -> int:
        """Wait for the server to end, for any reason, and return its exit code; -N if signal N ended it."""
        if self._process is None:
            raise RuntimeError("the embedded Valkey was not started")
        return await self._process.wait()

    async def restart(self) -> None:
        """Start the server again after an unexpected end, keeping the lock. Raises the same errors as `start`."""
        with _data_dir_errors(self._data_dir):
            self._prepare_data_dir()
        await self._launch(find_server_binary())

    def supervisor(self, budget: RestartBudget | None = None) -> Supervisor:
        """The loop that restarts the server, with the same data and url, if it ends unexpectedly."""
        hint = f"see its log {self.log}"
        return Supervisor("the embedded Valkey", self, reason="EMBEDDED_VALKEY_FAILED", hint=hint, budget=budget)

    async def stop(self) -> None:
        """Let the server save its data and end; kill it if it does not. Does nothing if it is not running."""
        process, self._process = self._process, None
        try:
            await self.cadence.stop()
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

    async def _launch(self, binary: ServerBinary) -> None:
        if not binary.bundled:
            self._allocator = None
        try:
            self._note_allocator(await self._run(binary))
        except BaseException:
            await self.stop()
            raise
        self.cadence.start()
        if self._started is not None:
            self._started(self.version, self.allocator)

    async def _run(self, binary: ServerBinary) -> ChildProcess:
        """Start the server and wait until it answers. If it does not start with the allocator, start it without."""
        self._process = process = self._spawn(binary)
        exit_code = await self._wait_until_ready(process)
        if exit_code is None:
            return process
        if self._allocator is None or exit_code == _EXIT_FAILURE:
            raise self._failure(f"ended with exit code {exit_code} while starting")
        self._give_up_allocator(f"the server ended with exit code {exit_code} while starting")
        return await self._run(binary)

    def _note_allocator(self, process: ChildProcess) -> None:
        """Find out whether the allocator was loaded, rather than assume it."""
        if self._allocator is None:
            return
        if self._allocator.is_loaded_by(process.pid):
            self.allocator = self._allocator.name
        else:
            self._give_up_allocator("it was not loaded")

    def _give_up_allocator(self, why: str) -> None:
        assert self._allocator is not None
        logger.warning("the embedded Valkey runs without its allocator", allocator=self._allocator.name, why=why)
        self._allocator = None

    def _prepare_data_dir(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)

    def _write_config(self) -> Path:
        config = self._data_dir / "valkey.conf"
        text = _CONFIG.format(socket=_escaped(self._socket), password=self._password, data_dir=_escaped(self._data_dir))
        replace_file(config, text.encode(errors="surrogateescape"))
        return config

    def _spawn(self, binary: ServerBinary) -> ChildProcess:
        with _data_dir_errors(self._data_dir):
            config = self._write_config()
        environment, descriptors = dict(_ENVIRONMENT), [self._lock.fd]
        with ExitStack() as stack:
            if self._allocator is not None:
                try:
                    descriptor, preloading = stack.enter_context(self._allocator.preloaded())
                except OSError as error:
                    self._give_up_allocator(str(error))
                else:
                    environment |= preloading
                    descriptors.append(descriptor)
            log = stack.enter_context(self.log.open("ab"))
            return ChildProcess([binary.path, config], output=log, environment=environment, pass_fds=descriptors)

    async def _wait_until_ready(self, process: ChildProcess) -> int | None:
        """Return None once it answers, or its exit code if it ends."""
        ended = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS), Valkey.from_url(self.url) as client:
                while (info := await _info(client)) is None:
                    await asyncio.wait({ended}, timeout=_PING_INTERVAL_SECONDS)
                    if ended.done():
                        return ended.result()
            self.version, self.allocator = str(info["valkey_version"]), str(info["mem_allocator"])
            return None
        except TimeoutError:
            raise self._failure(f"did not answer within {START_TIMEOUT_SECONDS:g} s") from None
        finally:
            ended.cancel()

    async def _rewrite(self) -> None:
        connection = ValkeyConnection(self.url)
        try:
            await connection.call("BGREWRITEAOF")
        finally:
            await connection.close()

    def _failure(self, what: str) -> ConfigurationError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = " | ".join(line.strip() for line in lines[-_LOG_LINES_SHOWN:]) or "empty"
        return ConfigurationError(
            f"the embedded Valkey {what}; the end of its log {self.log}: {last}", reason="EMBEDDED_VALKEY_FAILED"
        )


@contextmanager
def _data_dir_errors(data_dir: Path) -> Iterator[None]:
    """Convert file system errors to an error that names the folder and a remedy."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the data folder {data_dir}: {error.strerror}; "
            + _REMEDIES.get(error.errno or 0, "set another data_dir"),
            field="data_dir",
            reason="DATA_DIR_UNUSABLE",
        ) from error


def _unobserved(seconds: float, error: OSError | None) -> None:
    pass


async def _info(client: Valkey) -> dict[str, object] | None:
    """What the server says about itself; None while it cannot serve."""
    try:
        await client.ping()
        return dict(await client.info())
    except (ValkeyConnectionError, OSError):
        return None


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
