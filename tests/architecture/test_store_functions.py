"""The header of each Lua function against the constants below it, and against the one call that there is of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest

from distributor.model.agent import AgentHello, HeldCommand, Renewal
from distributor.model.command import Reason
from distributor.model.delivery import (
    CancelProgress,
    ClaimRequest,
    Completion,
    Extension,
    OutputPiece,
    Progress,
    Release,
)
from distributor.model.enrolment import Enrolment, NewEnrolmentToken
from distributor.model.halt import SessionHalt
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.model.listing import CommandFilter
from distributor.model.queueing import NewCommand
from distributor.model.revocation import RevokedKind
from distributor.model.stop_scope import StopScope
from distributor.store import keys
from distributor.store.audit_log import ValkeyAuditLog
from distributor.store.command_reader import ValkeyCommandReader
from distributor.store.command_store import ValkeyCommandStore
from distributor.store.connections import Reads
from distributor.store.enrolment_store import ValkeyEnrolmentStore
from distributor.store.exchanges import Exchanges
from distributor.store.functions import FunctionCall, Functions
from distributor.store.index_checker import Found, Index, ValkeyIndexChecker
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.store.revocation_list import ValkeyRevocationStore
from distributor.store.session_store import ValkeySessionStore
from distributor.store.stop_store import ValkeyStopStore
from tests.support.memory_trail import MemoryTrail, queued
from tests.support.source_tree import PACKAGE

LUA: Final = sorted(path for path in (PACKAGE / "store" / "functions").glob("*.lua") if not path.name.startswith("_"))
PROGRESS: Final = Progress("id", "agent", "lease")


class Counts(NamedTuple):
    """How many arguments come first, and how many for each item."""

    header: int
    item: int


class Recorded(Exception):
    """The arguments of a call, which goes no further."""

    def __init__(self, name: str, arguments: list[Any]) -> None:
        super().__init__(name)
        self.name = name
        self.arguments = arguments


class Recorder(Functions):
    """Stands where the functions are called."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None))

    async def call(self, name: str, arguments: Sequence[Any], items: int = 1) -> Any:
        raise Recorded(name, [*self._head, *arguments])

    async def read(self, name: str, arguments: Sequence[Any], connection: Reads | None = None) -> Any:
        raise Recorded(name, list(arguments))

    def submit(self, calls: Sequence[FunctionCall]) -> asyncio.Future[list[Any]]:
        (call,) = calls
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        future.set_exception(Recorded(call.name, [*self._head, *call.arguments]))
        return future


def documented(function: Path) -> Counts:
    """Counted in the header: the names before the semicolon, and those after the colon that follows it."""
    header = " ".join(line.removeprefix("--").strip() for line in function.read_text().split("\n\n")[0].splitlines())
    found = re.search(r"ARGV (.*?) Returns", header)
    assert found is not None
    first, _, rest = re.sub(r"\([^)]*\)", "", found.group(1)).partition(";")
    if first.strip() == "none":
        return Counts(0, 0)
    return Counts(len(first.split(",")), len(rest.partition(":")[2].split(",")) if rest else 0)


async def call_of(name: str, items: int) -> Recorded:
    """What the stores send to a function for so many items."""
    functions = Recorder()
    exchanges, policy = Exchanges(functions), StorePolicy()
    store = ValkeyCommandStore(functions, exchanges, policy)
    sessions = ValkeySessionStore(functions, exchanges, policy)
    output = ValkeyOutputLog(cast(Any, None), functions, exchanges, policy)
    stops = ValkeyStopStore(cast(Any, None), functions, exchanges, policy.offline_after_ms)
    reader = ValkeyCommandReader(cast(Any, None), functions, policy.offline_after_ms)
    checker = ValkeyIndexChecker(cast(Any, None), functions, "replica", policy)
    audit_log = ValkeyAuditLog(cast(Any, None), functions)
    trail = MemoryTrail()
    extension = trail.add(*[queued()] * (items - 1))
    assert extension is not None
    enrolment, revocations = ValkeyEnrolmentStore(functions, 30_000), ValkeyRevocationStore(functions)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "enqueue": lambda: store.enqueue([NewCommand("id", "agent", "PING", b"")] * items),
        "claim": lambda: store.claim([ClaimRequest("agent", 1, 1, "lease")] * items),
        "progress": lambda: store.progress([PROGRESS] * items),
        "finish": lambda: store.finish([Completion(PROGRESS, CommandStatus.FAILED)] * items),
        "release": lambda: store.release([Release("id", "agent", "lease", 0, Reason())] * items),
        "extend": lambda: store.extend([Extension("id", "agent", "lease", 1)] * items),
        "cancel": lambda: store.cancel("id", ""),
        "cancel_stage": lambda: store.cancel_stages(
            [CancelProgress("id", "agent", "lease", CancelStage.STOPPING)] * items
        ),
        "due": lambda: store.due([1] * items),
        "forget": lambda: store.forget(""),
        "attach": lambda: sessions.attach(
            AgentHello("agent", "instance", 1, (), {}, "", (HeldCommand("id", "lease"),) * items)
        ),
        "heartbeat": lambda: sessions.heartbeat([Renewal("agent", 1)] * items),
        "detach": lambda: sessions.detach([("agent", 1)] * items),
        "stop": lambda: stops.stop("stop", StopScope(all=True), "", ""),
        "resume": lambda: stops.resume(["stop"] * items),
        "stop_commands": lambda: stops.stop_commands([("agent", "")] * items),
        "halted": lambda: stops.halted([SessionHalt("agent", 1, None)] * items),
        "append_output": lambda: output.append([OutputPiece("id", "agent", "lease", 1, 0, b"")] * items),
        "read_output": lambda: output.read("id", 0, 1),
        "get_command": lambda: reader.details("id"),
        "list_commands": lambda: reader.page(CommandFilter(), "", 1),
        "read_agents": lambda: reader.agents(["agent"] * items),
        "check_indexes": lambda: checker.check([Found("record", "key", "id")] * items),
        "inspect_keys": lambda: checker.inspect_keys("0"),
        "inspect_index": lambda: checker.inspect_index(Index("deadlines", keys.DEADLINES), "0"),
        "audit_append": lambda: audit_log.append(extension),
        "audit_state": lambda: audit_log.state(),
        "create_enrolment_token": lambda: enrolment.create(NewEnrolmentToken("id", "digest", "agent", {}, 1, 1)),
        "enrolment_token": lambda: enrolment.token("id", "digest"),
        "enrol": lambda: enrolment.enrol(Enrolment("agent", "id", "digest", False, False)),
        "revoke": lambda: revocations.revoke(RevokedKind.AGENT, "agent", "user:ada", "lost"),
        "restore_agent": lambda: revocations.restore_agent("agent"),
        "restore_service": lambda: revocations.restore_service("billing"),
        "revocations": lambda: revocations.changed_since(0),
        "probe": lambda: Functions.check_writable(functions),
    }
    with pytest.raises(Recorded) as caught:
        await calls[name]()
    return caught.value


@pytest.mark.parametrize("function", LUA, ids=lambda path: path.stem)
def test_the_constants_are_what_the_header_says(function: Path) -> None:
    counts = documented(function)
    constants = re.search(r"^local HEADER(?:, ITEM)? = (\d+)(?:, (\d+))?$", function.read_text(), re.MULTILINE)
    if constants is None:
        assert counts.item == 0, "a function that takes items says how many arguments each has"
    else:
        assert counts == (int(constants.group(1)), int(constants.group(2) or 1))


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("function", LUA, ids=lambda path: path.stem)
async def test_its_call_has_the_arguments_that_the_header_says(function: Path, items: int) -> None:
    counts = documented(function)
    # A cancel is called for one command only.
    items = 1 if function.stem == "cancel" else items
    call = await call_of(function.stem, items)
    assert call.name == function.stem
    assert len(call.arguments) == counts.header + counts.item * items


@pytest.mark.parametrize("function", LUA, ids=lambda path: path.stem)
def test_its_name_is_that_of_its_file(function: Path) -> None:
    (registered,) = re.findall(r"^register(?:_reader)?\('(\w+)', (\w+)[,)]", function.read_text(), re.MULTILINE)
    assert registered == (function.stem, function.stem)


@pytest.mark.parametrize("function", LUA, ids=lambda path: path.stem)
def test_no_argument_is_read_beyond_its_count(function: Path) -> None:
    code = re.sub(r"--.*", "", function.read_text())
    counts = documented(function)
    assert max([int(place) for place in re.findall(r"args\[(\d+)\]", code)], default=0) <= counts.header
    assert max([int(place) for place in re.findall(r"args\[i \+ (\d+)\]", code)], default=0) <= max(counts.item - 1, 0)
