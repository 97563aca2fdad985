"""A Valkey as an operator might run it, with any settings, that tests kill and start again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from valkey.asyncio import Valkey
from valkey.exceptions import ConnectionError as ValkeyConnectionError

from distributor.processes.child_process import ChildProcess
from distributor.store.server_binary import find_server_binary
from tests.support.waiting import eventually


class ExternalValkey:
    """Keeps its data in `folder`. On a Unix socket, and on a loopback port if there is one among the settings."""

    def __init__(self, folder: Path, **settings: str | int) -> None:
        """`settings` as in valkey.conf, with underscores for dashes."""
        self.folder = folder
        self.url = f"unix://{folder / 'valkey.sock'}"
        given = {"port": 0, "appendonly": "yes", "save": "", **settings}
        self._settings = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        self._process: ChildProcess | None = None
        folder.mkdir(exist_ok=True)

    async def start(self) -> None:
        """Return once it answers."""
        fixed = ["--unixsocket", str(self.folder / "valkey.sock"), "--dir", str(self.folder)]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = ChildProcess([find_server_binary().path, *fixed, *self._settings], output=log)
        await eventually(self._answers)

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            await self._process.stop()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def info(self, section: str) -> dict[str, str]:
        """What it says about itself."""
        async with Valkey.from_url(self.url) as client:
            return {name: str(value) for name, value in (await client.info(section)).items()}

    async def role(self) -> str:
        """Whether it is a "master" or a "slave"."""
        return (await self.info("replication"))["role"]

    async def set(self, name: str, value: str) -> None:
        """Change a setting while it runs."""
        async with Valkey.from_url(self.url) as client:
            await client.config_set(name, value)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.exit_code is None, (self.folder / "valkey.log").read_text()
        try:
            async with Valkey.from_url(self.url) as client:
                return bool(await client.ping())
        except (ValkeyConnectionError, OSError):
            return False
