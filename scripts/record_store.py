"""Records the store functions and the events of this version, for tests of later versions beside it.

Run it when a version is released: servers of two adjoining versions share a Valkey during a rolling upgrade.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

import distributor
from distributor.model.agent import AgentHello
from distributor.model.command import Reason
from distributor.model.delivery import ClaimRequest, Completion, OutputPiece, Progress, Release
from distributor.model.ids import CommandIdMint
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import NewCommand
from distributor.store import keys
from distributor.store.command_store import ValkeyCommandStore
from distributor.store.connections import StoreConnections
from distributor.store.embedded import EmbeddedValkey
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions, library_source
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.store.session_store import ValkeySessionStore

FOLDER: Final = Path(__file__).parent.parent / "tests" / "recorded" / "store"
AGENT, LEASE, REPLICA = "press-7", "lease", "recorder"


def main() -> int:
    """Write the functions as Lua source and one event of each kind as JSON; return 0."""
    folder = FOLDER / distributor.__version__
    folder.mkdir(parents=True, exist_ok=True)
    source, _ = library_source()
    (folder / "functions.lua").write_text(source, encoding="utf-8")
    entries = asyncio.run(_entries())
    (folder / "events.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return 0


async def _entries() -> list[list[str]]:
    """The fields of each entry of the event stream after commands and an agent went through all changes."""
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        async with EmbeddedValkey(Path(folder)) as valkey:
            connections = StoreConnections.to(valkey.url)
            try:
                await _change_everything(connections)
                found = await connections.reads.call("XRANGE", keys.in_shard(keys.EVENTS), "-", "+")
            finally:
                await connections.close()
    return [[field.decode() for field in fields] for _, fields in found]


async def _change_everything(connections: StoreConnections) -> None:
    policy = StorePolicy()
    functions = Functions(connections.functions, REPLICA, policy)
    exchanges = Exchanges(functions)
    store, sessions = ValkeyCommandStore(functions, exchanges, policy), ValkeySessionStore(functions, exchanges, policy)
    output = ValkeyOutputLog(connections.reads, exchanges, policy)
    attached = await sessions.attach(AgentHello(AGENT, "instance", 5, (), {}, "", ()))
    mint = CommandIdMint()
    first, second = (mint.mint(1_700_000_000_000, number) for number in range(2))
    await store.enqueue([NewCommand(one, AGENT, "PRINT", b"", params_summary="text=…") for one in (first, second)])
    await store.claim([ClaimRequest(AGENT, attached.epoch, 5, LEASE)])
    await store.progress([Progress(first, AGENT, LEASE, 1, 2)])
    await store.progress([Progress(first, AGENT, LEASE, 1, 2, 3)])
    await output.append([OutputPiece(first, AGENT, LEASE, 1, 0, b"printed\n")])
    await store.cancel(first, 'no "longer"\twanted')
    await store.finish([Completion(Progress(first, AGENT, LEASE), CommandStatus.CANCELLED, Reason("cancelled", "so"))])
    await store.release([Release(second, AGENT, LEASE, 1, Reason("busy", "no room"))])
    await asyncio.sleep(0.01)
    await store.due([0])
    await sessions.detach([(AGENT, attached.epoch)])


if __name__ == "__main__":
    sys.exit(main())
