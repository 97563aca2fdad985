"""A store on a real Valkey in which tests can set any status, move deadlines, and read every key."""

from __future__ import annotations

from typing import Any, Final

from distributor.model.agent import AgentHello, Attached, HeldCommand
from distributor.model.command import CommandState
from distributor.model.delivery import (
    Claim,
    ClaimRequest,
    Completion,
    CompletionOutcome,
    OutputPiece,
    OutputRefusal,
    Progress,
)
from distributor.model.event import Event, EventBatch
from distributor.model.ids import CommandIdMint
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails
from distributor.model.queueing import Enqueued, NewCommand, QueueOutcome
from distributor.store import keys
from distributor.store.audit_log import ValkeyAuditLog
from distributor.store.command_reader import ValkeyCommandReader
from distributor.store.command_store import ValkeyCommandStore
from distributor.store.connections import StoreConnections
from distributor.store.enrolment_store import ValkeyEnrolmentStore
from distributor.store.event_log import ValkeyEventLog
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.index_checker import ValkeyIndexChecker
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.store.revocation_list import ValkeyRevocationStore
from distributor.store.session_store import ValkeySessionStore
from distributor.store.stop_store import ValkeyStopStore
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.shard_view import view

AGENT: Final = "agent123"
INSTANCE: Final = "instance1"
LEASE: Final = "lease1"
REPLICA: Final = "replica1"
ENCODED: Final = b"\x0a\x00encoded\xff"
TERMINAL: Final = [status for status in CommandStatus if status.terminal]

ENDING_KEYS: Final = (keys.COMMAND, keys.STATUS, keys.AGENT_COMMAND, keys.RESULT)
"""Which keys of its own the end of a command changes."""

Dump = dict[str, tuple[str, Any, bool]]
"""Every key: its type, its content, and whether it has a TTL."""


class StoreWorld:
    """All stores of one replica under one policy. `under()` gives the same Valkey under another."""

    def __init__(
        self,
        connections: StoreConnections,
        policy: StorePolicy | None = None,
        inspecting: ValkeyConnection | None = None,
        shard: str = keys.ONLY_SHARD,
    ) -> None:
        self.connections = connections
        self.shard = shard
        self._inspecting = inspecting
        self.connection = view(inspecting or connections.reads, shard)
        """With which a test looks at what is stored, and damages it, by names as if there were no shards."""
        self.told: list[EventBatch] = []
        """Changes that came with the replies of the functions."""
        self.policy = policy or StorePolicy()
        self.functions = Functions(connections.functions, REPLICA, self.policy, shard=shard)
        self.functions.on_changes = self.told.append
        exchanges = Exchanges(self.functions)
        self.store = ValkeyCommandStore(self.functions, exchanges, self.policy)
        self.sessions = ValkeySessionStore(self.functions, exchanges, self.policy)
        self.output = ValkeyOutputLog(connections.reads, self.functions, exchanges, self.policy)
        self.reader = ValkeyCommandReader(connections.reads, self.functions, self.policy.offline_after_ms)
        self.stops = ValkeyStopStore(connections.reads, self.functions, exchanges, self.policy.offline_after_ms)
        self.index_checker = ValkeyIndexChecker(connections.reads, self.functions, REPLICA, self.policy)
        self.audit_log = ValkeyAuditLog(connections.reads, self.functions)
        self.enrolment = ValkeyEnrolmentStore(self.functions, self.policy.offline_after_ms)
        self.revocations = ValkeyRevocationStore(self.functions)
        self.epochs: dict[str, int] = {}
        self._event_log = ValkeyEventLog(connections.events, shard=shard)
        self._mint = CommandIdMint()

    def under(self, **policy: Any) -> StoreWorld:
        """The same Valkey, agents and ids, under a policy that differs from the default in `policy`."""
        world = StoreWorld(self.connections, StorePolicy(**policy), self._inspecting, self.shard)
        world.epochs, world._mint = self.epochs, self._mint
        return world

    # Commands in any status

    def new_id(self) -> str:
        """An id that nothing has yet, greater than all before."""
        return self._mint.mint(1_700_000_000_000, 0, tag=self.shard)

    def new(self, agent_id: str = AGENT, kind: str = "PRINT", **fields: Any) -> NewCommand:
        """A command that is not stored yet."""
        return NewCommand(self.new_id(), agent_id, kind, ENCODED, **fields)

    async def enqueue(self, *commands: NewCommand) -> list[Enqueued]:
        """The answers to one call."""
        return await self.store.enqueue(commands)

    async def queued(self, agent_id: str = AGENT, kind: str = "PRINT", **fields: Any) -> str:
        """The id of a new queued command."""
        (answer,) = await self.enqueue(self.new(agent_id, kind, **fields))
        assert answer.outcome is QueueOutcome.QUEUED
        return answer.command_id

    async def assigned(self, agent_id: str = AGENT, lease_id: str = LEASE, **fields: Any) -> str:
        """The id of a new command that the agent was given. No other may be queued for it."""
        if agent_id not in self.epochs:
            await self.attach(agent_id)
        command_id = await self.queued(agent_id, **fields)
        claim = await self.claim(agent_id, lease_id)
        assert [command.command_id for command in claim.commands] == [command_id]
        return command_id

    async def acknowledged(self, agent_id: str = AGENT, **fields: Any) -> str:
        """The id of a new command that the agent has said to have."""
        command_id = await self.assigned(agent_id, **fields)
        assert await self.store.progress([Progress(command_id, agent_id, LEASE, 1, 2)]) == [True]
        return command_id

    async def ended(self, status: CommandStatus, agent_id: str = AGENT, **fields: Any) -> str:
        """The id of a new command that the agent reported to have ended so."""
        command_id = await self.acknowledged(agent_id, **fields)
        outcomes = await self.store.finish([completion(command_id, status, agent_id=agent_id)])
        assert outcomes == [CompletionOutcome.STORED]
        return command_id

    async def command(self, status: CommandStatus, **fields: Any) -> str:
        """The id of a new command in this status; the agent is attached in any case."""
        if AGENT not in self.epochs:
            await self.attach()
        match status:
            case CommandStatus.QUEUED:
                return await self.queued(**fields)
            case CommandStatus.ASSIGNED:
                return await self.assigned(**fields)
            case _:
                return await self.ended(status, **fields)

    async def one_of_each(self, **fields: Any) -> dict[CommandStatus, str]:
        """A command in each of the six statuses."""
        return {status: await self.command(status, **fields) for status in reversed(CommandStatus)}

    # What agents and distributors do

    async def attach(
        self,
        agent_id: str = AGENT,
        held: tuple[HeldCommand, ...] = (),
        instance_id: str = INSTANCE,
        types: tuple[str, ...] = (),
        orphan_after_ms: int = 0,
    ) -> Attached:
        """Open a session, and remember its epoch."""
        hello = AgentHello(
            agent_id, instance_id, 5, types, {"site": "lab"}, "test 1", held, orphan_after_ms=orphan_after_ms
        )
        attached = await self.sessions.attach(hello)
        self.epochs[agent_id] = attached.epoch
        return attached

    async def claim(self, agent_id: str = AGENT, lease_id: str = LEASE, max_commands: int = 20) -> Claim:
        """What the agent's latest session is given."""
        (claim,) = await self.store.claim([ClaimRequest(agent_id, self.epochs[agent_id], max_commands, lease_id)])
        return claim

    async def print_output(
        self, command_id: str, offset: int, data: bytes, lease_id: str = LEASE
    ) -> int | OutputRefusal:
        """Append one piece of standard output."""
        (safe,) = await self.output.append([OutputPiece(command_id, AGENT, lease_id, 1, offset, data)])
        return safe

    # What tests see and move

    async def state(self, command_id: str) -> CommandState:
        """The state of a command that exists."""
        (state,) = await self.reader.states([command_id])
        assert state is not None
        return state

    async def details(self, command_id: str) -> CommandDetails:
        """All of a command."""
        details = await self.reader.details(command_id)
        assert details is not None
        return details

    async def now_ms(self) -> int:
        """Valkey's time."""
        seconds, microseconds = await self.connection.call("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def next_millisecond(self) -> None:
        """Return in a later millisecond of Valkey's time."""
        now_ms = await self.now_ms()
        while await self.now_ms() == now_ms:
            pass

    async def hash(self, command_id: str) -> dict[str, str]:
        """All of a command's status hash."""
        fields = [part.decode() for part in await self.connection.call("HGETALL", f"command:status:{command_id}")]
        return dict(zip(fields[::2], fields[1::2], strict=True))

    async def set_field(self, command_id: str, field: str, value: str | int) -> None:
        """Write one field of the status hash behind the functions' back."""
        await self.connection.call("HSET", keys.STATUS.format(command_id=command_id), field, value)

    async def deadline(self, command_id: str) -> int | None:
        """The millisecond at which something must happen to a command."""
        score = await self.connection.call("ZSCORE", keys.DEADLINES, command_id)
        return None if score is None else int(float(score))

    async def pass_deadline(self, command_id: str) -> None:
        """Let the deadline of a command have passed.

        One in the queue has then waited longer than it may; nothing can run any more of one in doubt.
        """
        await self.connection.call("ZADD", keys.DEADLINES, 1, command_id)
        state = await self.state(command_id)
        if state.status is CommandStatus.QUEUED:
            await self.set_field(command_id, "expires_ms", 1)
        elif state.reason.code == "unconfirmed":
            await self.set_field(command_id, "doubt_until", 1)

    async def end_delay(self, command_id: str) -> None:
        """Let the delay after a release be over."""
        await self.connection.call("ZADD", keys.DEADLINES, 1, command_id)

    async def outage(self) -> None:
        """Let no server have looked at deadlines for a minute, nor heard the agent."""
        await self.connection.call("HSET", keys.DUE_PASSES, "last_ms", await self.now_ms() - 60_000)
        await self.silence()

    async def is_delayed(self, command_id: str, agent_id: str = AGENT) -> bool:
        """Whether a queued command waits for its next attempt or run."""
        return bool(await self.connection.call("SISMEMBER", keys.DELAYED.format(agent_id=agent_id), command_id))

    async def silence(self, agent_id: str = AGENT) -> None:
        """Let the agent have been heard last at the beginning of time."""
        await self.connection.call("HSET", keys.SESSION.format(agent_id=agent_id), "last_seen_ms", 1)

    async def position(self) -> str:
        """The position of the newest event."""
        return await self._event_log.last_position()

    async def events(self, after: str = "0-0") -> list[Event]:
        """All events after a position."""
        last = await self.position()
        found: list[Event] = []
        if last == after or last == "0-0":
            return found
        async for batch in self._event_log.tail(after):
            assert batch.origin == REPLICA
            found += batch.events
            if batch.position == last:
                break
        return found

    async def dump(self) -> Dump:
        """Every key in Valkey, but for the note of the latest look at deadlines."""
        names = sorted(await self.connection.call("KEYS", "*"))
        names = [name for name in names if name.decode() != keys.DUE_PASSES]
        if not names:
            return {}
        kinds = await self.connection.calls([("TYPE", name) for name in names])
        present = [(name, kind.decode()) for name, kind in zip(names, kinds, strict=True) if kind != b"none"]
        contents = await self.connection.calls([(_READERS[kind], name, *_OPTIONS[kind]) for name, kind in present])
        ttls = await self.connection.calls([("PTTL", name) for name, _ in present])
        return {
            name.decode(): (kind, _readable(kind, content), ttl >= 0)
            for (name, kind), content, ttl in zip(present, contents, ttls, strict=True)
        }


_READERS: Final = {
    "list": "LRANGE",
    "string": "GET",
    "hash": "HGETALL",
    "set": "SMEMBERS",
    "zset": "ZRANGE",
    "stream": "XRANGE",
}
_OPTIONS: Final[dict[str, tuple[str | int, ...]]] = {
    "string": (),
    "hash": (),
    "set": (),
    "list": (0, -1),
    "zset": (0, -1, "WITHSCORES"),
    "stream": ("-", "+"),
}


def changed(before: Dump, after: Dump) -> set[str]:
    """The keys that came, went, or are not as they were."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def completion(
    command_id: str,
    status: CommandStatus = CommandStatus.COMPLETED,
    agent_id: str = AGENT,
    lease_id: str = LEASE,
    **result: Any,
) -> Completion:
    """What an agent reports at the end of a command."""
    return Completion(Progress(command_id, agent_id, lease_id, 1, 2, 3), status, **result)


def own_keys(command_id: str, *templates: str) -> set[str]:
    """Keys of a command, from their templates."""
    return {template.format(command_id=command_id, agent_id=AGENT) for template in templates}


def status_index(*statuses: CommandStatus) -> set[str]:
    """The indexes of these statuses."""
    return {keys.BY_STATUS.format(status=status) for status in statuses}


def agent_index(*templates: str) -> set[str]:
    """Indexes of the agent, from their templates."""
    return {template.format(agent_id=AGENT) for template in templates}


def _readable(kind: str, reply: Any) -> Any:
    content = _plain(reply)
    if kind in ("hash", "zset"):
        return dict(zip(content[::2], content[1::2], strict=True))
    return sorted(content) if kind == "set" else content


def _plain(reply: Any) -> Any:
    if isinstance(reply, list | tuple | set):
        return [_plain(part) for part in reply]
    return reply.decode("latin-1") if isinstance(reply, bytes) else reply
