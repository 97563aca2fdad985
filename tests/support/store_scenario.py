"""A scenario of one agent and its commands that calls every store function.

Each step is one thing that a server does. On an empty Valkey, each run sends the same; so any step can be done by
another server, such as a recorded one. Steps of a released version keep their names and arguments.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any, Final
from unittest import mock

from distributor.identity.audit_chain import ChainPolicy
from distributor.identity.audit_keys import AuditKeyRing
from distributor.model.agent import AgentHello, HeldCommand, Renewal
from distributor.model.command import OfflinePolicy, Reason
from distributor.model.control import PING, STOP
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
from distributor.model.halt import HaltReport, SessionHalt, StillRunning
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.model.listing import CommandFilter
from distributor.model.queueing import NewCommand
from distributor.model.revocation import RevokedKind
from distributor.model.stop_scope import StopScope
from distributor.store import keys
from distributor.store.index_checker import Found
from distributor.store.policy import StorePolicy
from tests.support.memory_trail import MemoryTrail
from tests.support.store_world import StoreWorld

AGENT: Final = "press-7"
COMMANDS: Final = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "p1", "s1", "d1", "e1")
"""All that are queued."""
POLICY: Final = StorePolicy(ack_deadline_ms=0)
"""Ack deadlines pass at once; the steps say when a server acts on them."""

TOKEN: Final = NewEnrolmentToken("token1", "digest", "enrolled", {"site": "lab"}, 3, 3_600_000)

Step = Callable[[StoreWorld], Awaitable[object]]


def new(command_id: str, kind: str = "PRINT", agent_id: str = AGENT, **fields: Any) -> NewCommand:
    """A command to queue."""
    return NewCommand(command_id, agent_id, kind, b"encoded " + command_id.encode(), **fields)


def ran(command_id: str, lease_id: str) -> Progress:
    """Progress of a started command."""
    return Progress(command_id, AGENT, lease_id, 1, 2, 3)


def piece(command_id: str, lease_id: str, offset: int, data: bytes, packed: bytes = b"") -> OutputPiece:
    """A piece of standard output."""
    return OutputPiece(command_id, AGENT, lease_id, 1, offset, data, packed)


async def _attach(world: StoreWorld, instance_id: str, *held: tuple[str, str]) -> object:
    holds = tuple(HeldCommand(command_id, lease_id) for command_id, lease_id in held)
    hello = AgentHello(AGENT, instance_id, 5, ("PRINT", PING, STOP), {"site": "lab"}, "test 1", holds)
    attached = await world.sessions.attach(hello)
    adopted = [(one.command_id, one.attempt, one.output_bytes, one.cancel_reason) for one in attached.adopted.values()]
    return attached.epoch, adopted, attached.counted


async def _claim(world: StoreWorld, epoch: int, lease_id: str) -> object:
    return await world.store.claim([ClaimRequest(AGENT, epoch, 5, lease_id, 4)])


async def _check_indexes(world: StoreWorld) -> object:
    await world.connection.call("ZADD", keys.DEADLINES, 1, "c1")
    return await world.index_checker.check([Found("record", keys.STATUS.format(command_id="c1"), "c1")])


async def _audit(world: StoreWorld) -> object:
    """Each run stores the same: times, keys and the name of the chain are given."""
    trail = MemoryTrail(AuditKeyRing.parse(f"k1 {'A' * 43}"), ChainPolicy(checkpoint_rows=1))
    with mock.patch("secrets.token_hex", return_value="0011223344556677"):
        first = trail.add()
    assert first is not None
    stored = await world.audit_log.append(first)
    again = await world.audit_log.append(first)
    state = await world.audit_log.state()
    return stored.stored, again.stored, stored.head == state.head, state.checkpoint


async def _inspect(world: StoreWorld) -> object:
    """On one page each, as Valkey does not scan in the same order each run."""
    await world.connection.call("ZADD", keys.DEADLINES, 1, "lost")
    found = await world.functions.read("inspect_keys", ["0", 1_000])
    entries = await world.functions.read("inspect_index", ["deadlines", keys.DEADLINES, "", "0", 1_000])
    await world.connection.call("ZREM", keys.DEADLINES, "lost")
    return found, entries


async def _look(world: StoreWorld, *command_ids: str) -> object:
    details = [await world.reader.details(command_id) for command_id in command_ids]
    states = await world.reader.states(command_ids)
    return details, states, await world.reader.results(command_ids)


async def _look_at_agents(world: StoreWorld) -> object:
    depth = await world.reader.depth()
    agents, presences = await world.reader.agents([AGENT]), await world.reader.presences([AGENT, "absent"])
    return agents, presences, await world.reader.agent_ids("", 9), depth.by_status


async def _token(world: StoreWorld) -> object:
    token = await world.enrolment.token(TOKEN.token_id, TOKEN.digest)
    return token.agents, token.labels, token.left


async def _enrol_twice(world: StoreWorld) -> object:
    """As a second generation."""
    enrolment = Enrolment("enrolled", TOKEN.token_id, TOKEN.digest, False, True)
    return [await world.enrolment.enrol(enrolment) for _ in range(2)]


async def _revoke(world: StoreWorld, kind: RevokedKind, subject: str) -> object:
    entry = await world.revocations.revoke(kind, subject, "user:ada", 'a "lost" host')
    return entry._replace(revoked_ms=0)


async def _look_at_revocations(world: StoreWorld) -> object:
    found = await world.revocations.changed_since(0)
    assert found is not None
    return sorted(entry._replace(revoked_ms=0) for entry in found)


async def _list(world: StoreWorld, *statuses: CommandStatus) -> object:
    return await world.reader.page(CommandFilter(agent_id=AGENT, statuses=statuses), "", 20)


async def _stop(world: StoreWorld) -> object:
    stop = await world.stops.stop("stop1", StopScope(selectors=("press-*",)), "leak", "tester")
    return stop._replace(since_ms=0), len(await world.stops.stops())


async def _resume(world: StoreWorld) -> object:
    return [stop.stop_id for stop in await world.stops.resume(["stop1", "stop2"])]


STEPS: Final[dict[str, Step]] = {
    "check that Valkey is writable": lambda world: world.functions.check_writable(),
    "attach": lambda world: _attach(world, "one"),
    "heartbeat": lambda world: world.sessions.heartbeat([Renewal(AGENT, 1)]),
    "queue c1 and c2": lambda world: world.store.enqueue(
        [
            new("c1", max_runs=2, idempotency_key="key", digest="digest", params_summary="text=…"),
            new("c2", max_runs=2),
        ]
    ),
    "queue c1 again, and another under its key": lambda world: world.store.enqueue(
        [new("c9", idempotency_key="key", digest="digest"), new("c9", idempotency_key="key", digest="others")]
    ),
    "list queued commands": lambda world: _list(world, CommandStatus.QUEUED),
    "claim c1 and c2": lambda world: _claim(world, 1, "lease1"),
    "refuse c1": lambda world: world.store.release(
        [Release("c1", AGENT, "lease1", 1, Reason("busy", "no room"), refused=True)]
    ),
    "look at the agent of a delayed command": _look_at_agents,
    "give up c2 and make c1 ready": lambda world: world.store.due([0]),
    "claim c1 and c2 again": lambda world: _claim(world, 1, "lease2"),
    "return with c1, and c2 under its first lease": lambda world: _attach(
        world, "one", ("c1", "lease2"), ("c2", "lease1")
    ),
    "start c1 and c2": lambda world: world.store.progress([ran("c1", "lease2"), ran("c2", "lease1")]),
    "extend c2, and c1 by nothing": lambda world: world.store.extend(
        [Extension("c2", AGENT, "lease1", 600_000), Extension("c1", AGENT, "lease2", 1)]
    ),
    "print": lambda world: world.output.append(
        [piece("c1", "lease2", 0, b"printed\n"), piece("c2", "lease1", 0, b"once\n")]
    ),
    "print compressed, and under a wrong lease": lambda world: world.output.append(
        [
            piece("c1", "lease2", 8, b"more\n", gzip.compress(b"more\n", mtime=0)),
            piece("c2", "lease2", 5, b"wrong\n"),
        ]
    ),
    "read the output of c1": lambda world: world.output.read("c1", 0, 100),
    "request the cancel of c1": lambda world: world.store.cancel("c1", 'no "longer"\twanted'),
    "note that the cancel of c1 was sent": lambda world: world.store.cancel_stages(
        [
            CancelProgress("c1", AGENT, "lease2", CancelStage.DELIVERED),
            CancelProgress("c2", AGENT, "lease1", CancelStage.DELIVERED),
        ]
    ),
    "note that c1 could not be stopped": lambda world: world.store.cancel_stages(
        [CancelProgress("c1", AGENT, "lease2", CancelStage.COULD_NOT_STOP, "still running: 12 (sleep)")]
    ),
    "look at running commands": lambda world: _look(world, "c1", "c2"),
    "detach": lambda world: world.sessions.detach([(AGENT, 2)]),
    "look at an absent agent": _look_at_agents,
    "return with c1 and c2": lambda world: _attach(world, "one", ("c1", "lease2"), ("c2", "lease1")),
    "end c1, and c2 transiently": lambda world: world.store.finish(
        [
            Completion(ran("c1", "lease2"), CommandStatus.CANCELLED, Reason("cancelled", "so"), None, "", 13),
            Completion(ran("c2", "lease1"), CommandStatus.FAILED, Reason("a", "b"), output_bytes=5, rerun_delay_ms=0),
        ]
    ),
    "report the first run of c2 again": lambda world: world.store.finish(
        [Completion(ran("c2", "lease1"), CommandStatus.FAILED, Reason("a", "b"), output_bytes=5, rerun_delay_ms=0)]
    ),
    "claim the second run of c2": lambda world: _claim(world, 3, "lease3"),
    "print in the second run of c2": lambda world: world.output.append([piece("c2", "lease3", 0, b"twice\n")]),
    "find where the second run of c2 began to print": lambda world: world.output.base("c2"),
    "complete c2": lambda world: world.store.finish(
        [
            Completion(
                ran("c2", "lease3"),
                CommandStatus.COMPLETED,
                exit_code=0,
                data_json='{"pages":2}',
                output_bytes=6,
                ran=True,
            )
        ]
    ),
    "report c1 late, and an unknown command": lambda world: world.store.finish(
        [
            Completion(ran("c1", "lease2"), CommandStatus.COMPLETED, ran=True),
            Completion(ran("c9", "lease2"), CommandStatus.COMPLETED, ran=True),
        ]
    ),
    "queue more": lambda world: world.store.enqueue(
        [
            new("c3", queue_ttl_ms=0),
            new("c4"),
            new("c5"),
            new("c6"),
            new("c9", agent_id="absent", offline=OfflinePolicy.FAIL),
            new("p1", PING),
        ]
    ),
    "cancel c4 in the queue": lambda world: world.store.cancel("c4", "enough"),
    "expire c3": lambda world: world.store.due([0]),
    "claim p1, c5 and c6": lambda world: _claim(world, 3, "lease4"),
    "acknowledge c5": lambda world: world.store.progress([Progress("c5", AGENT, "lease4", 1, 2)]),
    "give up p1 and c6": lambda world: world.store.due([0]),
    "complete c6 under the given-up lease": lambda world: world.store.finish(
        [Completion(ran("c6", "lease4"), CommandStatus.COMPLETED, data_gzip="H4sI", ran=True)]
    ),
    "claim p1 again": lambda world: _claim(world.under(ack_deadline_ms=60_000), 3, "lease5"),
    "wait for the deadline of p1": lambda world: world.store.due([0]),
    "return with nothing": lambda world: _attach(world, "one"),
    "claim for a superseded session": lambda world: _claim(world, 3, "lease6"),
    "claim p1 once more": lambda world: _claim(world, 4, "lease6"),
    "complete p1": lambda world: world.store.finish(
        [Completion(ran("p1", "lease6"), CommandStatus.COMPLETED, ran=True)]
    ),
    "queue c7": lambda world: world.store.enqueue([new("c7")]),
    "push c7 out of the queue": lambda world: world.under(queue_limit=1, queue_full="drop").store.enqueue(
        [new("c8", time_limit_ms=1)]
    ),
    "claim c8": lambda world: _claim(world, 4, "lease7"),
    "acknowledge c8": lambda world: world.under(run_limit_slack_ms=0).store.progress(
        [Progress("c8", AGENT, "lease7", 1, 2)]
    ),
    "overrun c8": lambda world: world.store.due([0]),
    "queue d1": lambda world: world.store.enqueue([new("d1")]),
    "claim d1": lambda world: _claim(world, 4, "lease7a"),
    "cancel d1": lambda world: world.store.cancel("d1", "not wanted"),
    "leave d1 in doubt": lambda world: world.store.due([0]),
    "learn that the agent does not have d1": lambda world: world.store.finish(
        [Completion(Progress("d1", AGENT, "lease7a"), CommandStatus.CANCELLED, Reason("cancelled", "so"), absent=True)]
    ),
    "queue s1 for the present instance": lambda world: world.store.enqueue([new("s1", STOP)]),
    "detach again": lambda world: world.sessions.detach([(AGENT, 4)]),
    "attach another instance": lambda world: _attach(world, "another"),
    "claim nothing for another instance": lambda world: _claim(world, 5, "lease8"),
    "queue e1": lambda world: world.store.enqueue([new("e1")]),
    "claim e1": lambda world: _claim(world, 5, "lease9"),
    "stop the agent": _stop,
    "queue nothing while stopped": lambda world: world.store.enqueue([new("e2")]),
    "request the end of e1": lambda world: world.stops.stop_commands([(AGENT, "emergency stop stop1: leak")]),
    "cancel e1": lambda world: world.store.finish(
        [Completion(ran("e1", "lease9"), CommandStatus.CANCELLED, Reason("cancelled", "so"), ran=True)]
    ),
    "report what runs": lambda world: world.stops.halted(
        [SessionHalt(AGENT, 5, HaltReport("stop1", 1, (StillRunning("e1", "12 (sleep)"),)))]
    ),
    "resume": _resume,
    "look at ended commands": lambda world: _look(world, "c1", "c2", "c3"),
    "look at a present agent": _look_at_agents,
    "list all commands": lambda world: _list(world),
    "make an enrolment token": lambda world: world.enrolment.create(TOKEN),
    "look at an enrolment token": lambda world: _token(world),
    "enrol twice": lambda world: _enrol_twice(world),
    "revoke an agent": lambda world: _revoke(world, RevokedKind.AGENT, "enrolled"),
    "revoke a token": lambda world: _revoke(world, RevokedKind.TOKEN, "token1"),
    "revoke a service": lambda world: _revoke(world, RevokedKind.SERVICE, "billing"),
    "look at the revocations": lambda world: _look_at_revocations(world),
    "restore an agent": lambda world: world.revocations.restore_agent("enrolled"),
    "restore a service": lambda world: world.revocations.restore_service("billing"),
    "inspect": lambda world: _inspect(world),
    "check_indexes": lambda world: _check_indexes(world),
    "begin the audit trail": lambda world: _audit(world),
    "forget": lambda world: world.under(retention_ms=0).store.forget(""),
    "look at a forgotten command": lambda world: _look(world, "c1"),
    "count the keys that remain": lambda world: world.connection.call("DBSIZE"),
}
"""How a server of today does each step. Returns what it understood from the replies."""
