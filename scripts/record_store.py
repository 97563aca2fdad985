"""Records what a server of this version sends to Valkey and understands, to test later versions beside it.

Servers of two adjoining versions share a Valkey during a rolling upgrade. Run it before each release, and as often as
needed until then. It refuses to record a released version again.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import distributor
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from distributor.store.embedded import EmbeddedValkey
from distributor.store.event_entries import EventEntries
from distributor.store.functions import FOLDER, library_source
from distributor.store.valkey_connection import Argument
from tests.support import store_recording
from tests.support.own_logs import own_logs
from tests.support.recorded_event_reader import TYPES
from tests.support.recording_connections import Log, recording_connections
from tests.support.store_recording import COMMAND_ID, LIBRARY, MS, Call, Recording, readable, same_each_run, text_of
from tests.support.store_scenario import POLICY, STEPS
from tests.support.store_world import StoreWorld

ROOT: Final = Path(__file__).parent.parent
A_TIME: Final = "1700000000000"
"""Stands for all times in recorded events, so that recording again changes only what has changed."""


def main() -> int:
    """Write the recording of this version and return 0; print why not to stderr and return 1 if it is released."""
    version = distributor.__version__
    tag = release_tag(version)
    if tag:
        print(f"version {version} is released (tag {tag}): its recording must not change", file=sys.stderr)
        return 1
    recording = asyncio.run(_recorded())
    lacking = (_kinds() - recording.reader["kinds"].keys()) | (_functions() - _called(recording))
    if lacking:
        print(f"tests/support/store_scenario.py does not reach: {', '.join(sorted(lacking))}", file=sys.stderr)
        return 1
    recording.write(store_recording.FOLDER / version)
    return 0


def release_tag(version: str) -> str:
    """The git tag of a release, '' if there is none."""
    listing = ["git", "-C", str(ROOT), "tag", "--list", version, f"v{version}"]
    return subprocess.run(listing, check=True, capture_output=True, text=True).stdout.strip()


async def _recorded() -> Recording:
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        async with EmbeddedValkey(Path(folder)) as valkey:
            log: Log = []
            connections = recording_connections(valkey.url, log)
            try:
                return await _record(StoreWorld(connections, POLICY), log)
            finally:
                await connections.close()


async def _record(world: StoreWorld, log: Log) -> Recording:
    library, digest = library_source()
    await world.functions.load()
    steps = {}
    for name, step in STEPS.items():
        log.clear()
        await step(world)
        steps[name] = [_call(sent, reply, digest) for sent, reply in log]
        await world.next_millisecond()
    log.clear()
    await world.reader.states([COMMAND_ID])
    state = [text_of(part) for part in log[0][0]]
    found = await world.connection.call("XRANGE", keys.in_shard(keys.EVENTS), "-", "+")
    entries = [[same_each_run(field.decode()).replace(MS, A_TIME) for field in fields] for _, fields in found]
    return Recording(library, _reader(entries, state), steps, entries)


def _call(sent: Sequence[Argument], reply: Any, digest: str) -> Call:
    send = [text_of(part).replace(digest, LIBRARY) for part in sent]
    return Call(send, readable(send, reply))


def _reader(entries: list[list[str]], state: list[str]) -> dict[str, Any]:
    """How this version reads events, by the rules of `RecordedEventReader`."""
    kinds: dict[str, Any] = {}
    members: dict[str, str] = {}
    for event in [json.loads(text) for fields in entries for text in fields[3::2]]:
        rule = kinds.setdefault(event["event"], {"whole": _is_whole(event), "needs": list(event)})
        rule["needs"] = [name for name in rule["needs"] if name in event and _needs(event, name)]
        members |= {name: _type_name(value) for name, value in event.items()}
    return {
        "stream": keys.in_shard(keys.EVENTS),
        "state": state,
        "statuses": list(CommandStatus),
        "kinds": kinds,
        "members": members,
    }


def _is_whole(event: dict[str, Any]) -> bool:
    (parsed,) = _events(event)
    return isinstance(parsed, CommandChanged) and parsed.whole is not None


def _needs(event: dict[str, Any], name: str) -> bool:
    """Whether the event is unreadable without this member."""
    return not _events({one: value for one, value in event.items() if one != name})


def _events(event: dict[str, Any]) -> Sequence[Any]:
    with own_logs():
        return list(EventEntries().batch(b"1-0", [b"origin", b"", b"subject", json.dumps(event).encode()]).events)


def _type_name(value: Any) -> str:
    return next(name for name, kind in TYPES.items() if type(value) is kind)


def _kinds() -> set[str]:
    return {kind.value for kind in EventKind}


def _functions() -> set[str]:
    return {entry.name.removesuffix(".lua") for entry in FOLDER.iterdir() if not entry.name.startswith("_")}


def _called(recording: Recording) -> set[str]:
    sent = [call.send for calls in recording.steps.values() for call in calls]
    return {command[1].removesuffix(f"_{LIBRARY}") for command in sent if command[0].startswith("FCALL")}


if __name__ == "__main__":
    sys.exit(main())
