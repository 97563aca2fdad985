"""The Valkey of a campaign: a real server on a port, which faults may pause, kill, fill and slow down."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from bench.slow_disk import SlowDisk
from distributor.store.server_binary import find_server_binary
from tests.faults.campaign.processes import Program
from tests.support.waiting import eventually

_CONFIG: Final = """\
bind 127.0.0.1
port {port}
dir "{folder}"
appendonly yes
appendfsync {appendfsync}
save ""
maxmemory-policy noeviction
daemonize no
"""


class ValkeyProgram(Program):
    """A `valkey-server` that writes to its file before it answers. Every start has the same port and data."""

    def __init__(self, folder: Path, port: int, disk: SlowDisk | None = None, appendfsync: str = "no") -> None:
        """With a `disk`, its append-only files are on that."""
        self.port = port
        config = folder / "valkey.conf"
        config.write_text(_CONFIG.format(port=port, folder=folder, appendfsync=appendfsync))
        super().__init__([find_server_binary().path, config], folder / "valkey.log", disk.environment if disk else None)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def client(self) -> Valkey:
        """A connection of the test's own, past all proxies."""
        return Valkey(host="127.0.0.1", port=self.port)

    async def ready(self) -> None:
        """Wait until it has loaded its data and answers."""

        async def answers() -> bool:
            try:
                async with self.client() as client:
                    return bool(await client.ping())
            except (ValkeyError, OSError):
                assert self.running, self.log.read_text(errors="replace")[-2_000:]
                return False

        await eventually(answers)
