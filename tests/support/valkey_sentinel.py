"""A primary with two replicas and three Sentinels on loopback, which tests kill."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from distributor.processes.child_process import ChildProcess
from distributor.store.server_binary import find_server_binary
from tests.support.external_valkey import ExternalValkey
from tests.support.free_port import free_port
from tests.support.waiting import eventually

SERVICE: Final = "control"
DOWN_AFTER_MS: Final = 500
"""How long a Valkey may be silent until a Sentinel takes it for dead."""
SENTINELS: Final = 3
_CONFIG: Final = """\
port {port}
bind 127.0.0.1
dir "{folder}"
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 3000
"""


class WatchedValkey(ExternalValkey):
    """One of the Valkeys, known by its port."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port=port, bind="127.0.0.1", repl_diskless_sync_delay=0)
        self.port = port

    async def is_now(self, role: str) -> bool:
        """Whether it answers and is a "master" or a "slave". Changing its role ends connections."""
        try:
            return await self.role() == role
        except (ValkeyError, OSError):
            return False


class SentinelProcess:
    """One Sentinel."""

    def __init__(self, folder: Path, port: int, primary: int, down_after_ms: int) -> None:
        folder.mkdir()
        self.port = port
        self._config = folder / "sentinel.conf"
        self._log = folder / "sentinel.log"
        self._config.write_text(
            _CONFIG.format(port=port, folder=folder, service=SERVICE, primary=primary, down_after=down_after_ms)
        )
        self._process: ChildProcess | None = None

    async def start(self) -> None:
        """Return once it answers."""
        with self._log.open("ab") as log:
            self._process = ChildProcess([find_server_binary().path, self._config, "--sentinel"], output=log)
        await eventually(self._answers)

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def call(self, *arguments: str) -> Any:
        """Send it a command."""
        async with Valkey(host="127.0.0.1", port=self.port, decode_responses=True) as client:
            return await client.execute_command(*arguments)

    async def _answers(self) -> bool:
        try:
            return bool(await self.call("PING"))
        except (ValkeyError, OSError):
            return False


class ValkeySentinel:
    """All of them, in `folder`. The first of `valkeys` begins as the primary."""

    def __init__(self, folder: Path, down_after_ms: int = DOWN_AFTER_MS) -> None:
        self._folder = folder
        self._down_after_ms = down_after_ms
        self._ports = AsyncExitStack()
        self.valkeys: Sequence[WatchedValkey] = ()
        self.sentinels: Sequence[SentinelProcess] = ()

    @property
    def url(self) -> str:
        """What to put into valkey_url."""
        return f"valkey+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{SERVICE}"

    async def __aenter__(self) -> Self:
        ports = [self._ports.enter_context(free_port()) for _ in range(3 + SENTINELS)]
        self.valkeys = [WatchedValkey(self._folder / f"valkey-{number}", ports[number]) for number in range(3)]
        await asyncio.gather(*(one.start() for one in self.valkeys))
        for replica in self.valkeys[1:]:
            async with Valkey.from_url(replica.url) as client:
                await client.replicaof("127.0.0.1", str(self.valkeys[0].port))
        await eventually(self._replicating)
        self.sentinels = [
            SentinelProcess(
                self._folder / f"sentinel-{number}", ports[3 + number], self.valkeys[0].port, self._down_after_ms
            )
            for number in range(SENTINELS)
        ]
        await asyncio.gather(*(one.start() for one in self.sentinels))
        await eventually(self._watching)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(one.kill() for one in self.sentinels), *(one.kill() for one in self.valkeys))
        await self._ports.aclose()

    async def primary(self) -> WatchedValkey:
        """The primary that the Sentinels name."""
        for sentinel in self.sentinels:
            try:
                _, port = await sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            except (ValkeyError, OSError):
                continue
            return next(one for one in self.valkeys if one.port == int(port))
        raise AssertionError("no Sentinel answers")

    async def fail_over_from(self, before: WatchedValkey) -> WatchedValkey:
        """Wait until the Sentinels name another primary than `before`, which takes writes."""

        async def promoted() -> WatchedValkey | None:
            now = await self.primary()
            return now if now is not before and await now.is_now("master") else None

        return await eventually(promoted)

    async def replicated(self) -> None:
        """Return once the replicas have all that the primary has."""
        async with Valkey.from_url((await self.primary()).url) as client:
            await client.execute_command("WAIT", len(self.valkeys) - 1, 10_000)

    async def _replicating(self) -> bool:
        links = [(await replica.info("replication")).get("master_link_status") for replica in self.valkeys[1:]]
        return links == ["up"] * len(links)

    async def _watching(self) -> bool:
        """Whether each Sentinel knows the others and the replicas."""
        for sentinel in self.sentinels:
            state = await sentinel.call("SENTINEL", "MASTER", SERVICE)
            known = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
            if (int(known["num-other-sentinels"]), int(known["num-slaves"])) != (SENTINELS - 1, 2):
                return False
        return True
