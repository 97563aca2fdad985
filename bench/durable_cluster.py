"""A server under one durability, with its Valkey on a given disk."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import NamedTuple

from bench.child import ROOT, STOP_TIMEOUT_SECONDS, Child
from bench.cluster import Cluster, ServerVariant
from bench.slow_disk import SlowDisk
from distributor.store import embedded
from distributor.store.server_binary import find_server_binary


class DurableVariant(NamedTuple):
    """One way to keep what was acknowledged."""

    name: str
    durability: str = "process"
    appendfsync: str = ""
    """Of an external Valkey; empty for an embedded one."""
    instead: str = ""
    """What to do instead of what the server would (see bench/durability_variant.py); empty for nothing else."""
    replica: bool = False


class DurableCluster(Cluster):
    """A server with default settings but for its durability, and a Valkey. Everything in `folder`.

    `disk` slows the fsyncs of Valkey and of the server; None for the disk as it is.
    """

    def __init__(self, folder: Path, variant: DurableVariant, disk: SlowDisk | None) -> None:
        super().__init__(folder, ServerVariant())
        self._durable = variant
        program = ("-m", "bench.durability_variant", variant.instead) if variant.instead else _SERVER
        data = {"DATA_DIR": str(folder / "data")} if not variant.appendfsync else {"VALKEY_URL": self.valkey_url}
        settings = {**data, "DURABILITY": variant.durability}
        self._server = Child(
            "server",
            folder,
            *program,
            *("serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"),
            environment={
                **(disk.environment if disk is not None else {}),
                **{f"DISTRIBUTOR_{name}": value for name, value in settings.items()},
            },
        )
        self._replica: Child | None = None

    async def _start(self) -> None:
        if self._durable.appendfsync:
            await self._lifespan.enter("Valkey", self._valkey, embedded.STOP_TIMEOUT_SECONDS)
            self._lifespan.on_stop("connection", self.valkey.close)
            await self._valkey.cadence.stop()
            await self.valkey.call("CONFIG", "SET", "appendfsync", self._durable.appendfsync)
        if self._durable.replica:
            await self._start_replica()
        await self._lifespan.enter("server", self._server, STOP_TIMEOUT_SECONDS)
        serving = json.loads(await self._server.log_line('"event": "serving"'))
        self.address, self.http_address = serving["grpc"], serving["http"]

    async def _start_replica(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        password = self.valkey_url.partition("://:")[2].partition("@")[0]
        await self.valkey.call("CONFIG", "SET", "port", port, "repl-diskless-sync-delay", 0)
        folder = self._folder / "replica"
        folder.mkdir()
        own = ("--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--appendonly", "yes")
        of = ("--replicaof", f"127.0.0.1 {port}", "--masterauth", password)
        self._replica = Child("replica", folder, *own, *of, program=str(find_server_binary().path))
        await self._lifespan.enter("replica", self._replica, STOP_TIMEOUT_SECONDS)
        while "state=online" not in (await self.valkey_info("replication")).get("slave0", ""):
            await self.valkey.call("WAIT", 1, 100)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the server, Valkey and the load."""
        valkey = self._valkey.pid if self._durable.appendfsync else _child(self._server.pid)
        assert valkey is not None
        return {"server": self._server.pid, "valkey": valkey, "load": os.getpid()}


_SERVER = (str(ROOT / "cmd" / "distributor_server.py"),)


def _child(pid: int) -> int | None:
    """The first child of a process: of a server, its Valkey."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        children = (task / "children").read_text().split()
        if children:
            return int(children[0])
    return None
