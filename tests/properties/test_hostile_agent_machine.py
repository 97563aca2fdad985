"""An agent that reports anything about any attempt, in any order, over any number of streams.

The real gateway and the real store beside a model of both: each report has the answer of the model, and the store holds
what the model holds. Only gRPC is left out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from distributor.errors import InvalidArgument
from distributor.model.agent_report import LeaseRef
from distributor.model.delivery import ClaimRequest, CompletionOutcome, Progress
from distributor.model.lifecycle import CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.store.connections import StoreConnections
from distributor.store.policy import StorePolicy
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.gateway_world import GatewayWorld, MemoryStream, Run
from tests.support.inside_loop import Inside
from tests.support.lifecycle_model import LifecycleModel, ModelCommand
from tests.support.session_model import OutputReply, Replies, ResultReply, Said, SessionModel
from tests.support.store_world import StoreWorld
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import hello

AGENT, OTHER = "agent1", "agent2"
LATER_MS = 3_600_000
ATTEMPTS = 4
WINDOW, SLACK = 24, 24
LIMIT = 2**53
POLICY = StorePolicy(queue_limit=10, delivery_attempts=ATTEMPTS, ack_deadline_ms=LATER_MS)
REFUSALS: Final = dict(zip(["busy", "unsupported", "duplicate", "expired", "stale"], itertools.count(1)))
OUTCOMES: Final = {
    CompletionOutcome.STORED: (pb.RESULT_VERDICT_STORED, ""),
    CompletionOutcome.RUN_AGAIN: (pb.RESULT_VERDICT_STORED, ""),
    CompletionOutcome.LATE: (pb.RESULT_VERDICT_LATE, ""),
    CompletionOutcome.UNKNOWN: (pb.RESULT_VERDICT_REJECTED, "unknown_command"),
    CompletionOutcome.FOREIGN: (pb.RESULT_VERDICT_REJECTED, "foreign_command"),
    CompletionOutcome.STALE: (pb.RESULT_VERDICT_REJECTED, "stale_lease"),
}
PARTS = st.sampled_from(["received", "started", "output", "output", "output", "results", "refused", "cancel_reports"])
RIVAL_PARTS = st.sampled_from(["started", "started", "results", "results", "results", "output", "refused", "received"])
BOTH_ENDED = [("started", False), ("results", False), ("results", True)]
"""Two attempts of a command have ended, the later of which has started (part, is it of the earlier one)."""
WHICH = st.sampled_from(["current"] * 5 + ["old", "old", "foreign", "made up", "unknown", "none"])
WHERE = st.sampled_from(["end"] * 6 + ["start", "behind", "behind", "ahead", "far", "limit", "beyond", "negative"])


class HostileMachine(RuleBasedStateMachine):
    """Plays the agent, callers, the distributor, deadlines and events. Commands and leases are picked by number."""

    def __init__(self, run: Run, connections: StoreConnections) -> None:
        super().__init__()
        self.run = run
        run(connections.reads.call("FLUSHALL"))
        self.world = StoreWorld(connections, POLICY)
        self.commands = Inside(self.world.store)
        self.gateway = GatewayWorld(self.world, WINDOW, SLACK, RetryPolicy(ATTEMPTS, LATER_MS, LATER_MS))
        self.store = LifecycleModel(POLICY.queue_limit, ATTEMPTS)
        self.model = SessionModel(self.store, AGENT, WINDOW, SLACK)
        self.lease_ids: Iterator[str] = (f"lease{number}" for number in itertools.count(1))
        self.leases: list[LeaseRef] = []
        """Every lease that the agent was ever given."""
        self.printed: dict[LeaseRef, int] = {}
        """How far the agent has sent its output."""
        self.stream: MemoryStream | None = None
        self.heard: dict[str, int] = {}
        self.foreign = self.foreign_lease()
        self.enqueue(max_runs=2, watched=False)
        self.enqueue(max_runs=2, watched=True)
        self.attach([], goodbye=False, supersede=False)
        self.claim(2)

    def foreign_lease(self) -> LeaseRef:
        """A command that another agent runs."""
        self.queue(OTHER, 1)
        self.store.attach(OTHER, [])
        epoch = self.run(self.world.attach(OTHER)).epoch
        (command_id,) = self.store.claim(OTHER, epoch, 1, "foreign") or []
        self.run(self.commands.claim([ClaimRequest(OTHER, epoch, 1, "foreign")]))
        self.store.progress(self.store.commands[command_id], OTHER, "foreign", started=True)
        assert self.run(self.commands.progress([Progress(command_id, OTHER, "foreign", 1, 2, 3)])) == [True]
        return LeaseRef(command_id, "foreign")

    def queue(self, agent_id: str, max_runs: int) -> str:
        new = self.world.new(agent_id, max_runs=max_runs)
        encoded = command_pb2.Command(command_id=new.command_id, type="PRINT").SerializeToString()
        self.run(self.commands.enqueue([new._replace(encoded=encoded)]))
        place = len(self.store.commands)
        assert self.store.enqueue(ModelCommand(new.command_id, agent_id, new.priority, max_runs, place))
        return new.command_id

    def command(self, number: int) -> ModelCommand:
        mine = self.store.of(AGENT)
        return mine[number % len(mine)]

    # Callers, the distributor, deadlines

    @precondition(lambda self: len(self.store.commands) < 6)
    @rule(max_runs=st.integers(1, 3), watched=st.booleans())
    def enqueue(self, max_runs: int, watched: bool) -> None:
        command_id = self.queue(AGENT, max_runs)
        if watched:
            self.gateway.holds.open(command_id, 0)
            self.model.readers.add(command_id)

    @rule(number=st.integers(0, 5))
    def cancel(self, number: int) -> None:
        command = self.command(number)
        self.settle()
        if self.store.may_be_doubted(command):
            # Left to the machine of the store alone.
            return
        is_news = command.status is CommandStatus.ASSIGNED and not command.cancel_requested
        self.store.cancel(command)
        self.run(self.commands.cancel(command.command_id, reason_of(command.command_id)))
        flight = self.model.flights.get(command.command_id)
        if is_news and self.stream:
            self.run(self.gateway.cancel(AGENT, command.command_id, reason_of(command.command_id)))
            if flight:
                flight.cancelled = True
                self.expect_cancels([LeaseRef(command.command_id, flight.lease_id)])

    @rule(number=st.integers(0, 5))
    def pass_deadline(self, number: int) -> None:
        command = self.command(number)
        self.settle()
        if command.status.terminal or self.store.may_be_doubted(command):
            return
        self.store.pass_deadline(command)
        self.run(self.world.pass_deadline(command.command_id))
        self.run(self.commands.due([LATER_MS] * ATTEMPTS))
        self.relay()

    def relay(self) -> None:
        """Do as the events of the last step would: take from the session what the store has taken from it."""
        for command_id, flight in list(self.model.flights.items()):
            command = self.store.commands[command_id]
            if command.held_by(AGENT, flight.lease_id):
                continue
            del self.model.flights[command_id]
            lost = self.gateway.lose(
                AGENT, (command_id, command.attempt), reason_of(command_id), command.status.terminal
            )
            assert self.run(lost) == flight.lease_id
            if command.status.terminal:
                self.expect_cancels([LeaseRef(command_id, flight.lease_id)])

    @precondition(lambda self: any(c.status is CommandStatus.QUEUED and c.delayed for c in self.store.of(AGENT)))
    @rule()
    def end_delays(self) -> None:
        for command in self.store.of(AGENT):
            if command.status is CommandStatus.QUEUED and command.delayed:
                command.delayed = False
                self.run(self.world.end_delay(command.command_id))
        self.run(self.commands.due([LATER_MS] * ATTEMPTS))

    @precondition(lambda self: self.stream and any(command.ready for command in self.store.of(AGENT)))
    @rule(max_commands=st.integers(1, 3))
    def claim(self, max_commands: int) -> None:
        assert self.stream
        lease_id = next(self.lease_ids)
        before = len(self.stream.assignments)
        given = self.model.claim(max_commands, lease_id)
        self.leases += [LeaseRef(command_id, lease_id) for command_id in given]
        self.run(self.give(max_commands, lease_id))
        self.run(self.stream.receives(before + len(given)))
        assert [one.command.command_id for one in self.stream.assignments[before:]] == given
        assert {one.lease_id for one in self.stream.assignments[before:]} <= {lease_id}

    async def give(self, max_commands: int, lease_id: str) -> None:
        epoch = self.store.epochs[AGENT]
        (claim,) = await self.world.store.claim([ClaimRequest(AGENT, epoch, max_commands, lease_id)])
        assert self.gateway.attached(AGENT).deliver(claim, 0)

    @precondition(lambda self: any(not flight.received for flight in self.model.flights.values()))
    @rule(parts=st.lists(st.tuples(RIVAL_PARTS, st.booleans()), max_size=4) | st.permutations(BOTH_ENDED))
    def redeliver(self, parts: Sequence[tuple[str, bool]]) -> None:
        """What is rare by chance: an attempt is given up while its agent has it, and the next is made."""
        command_id = next(one for one, flight in self.model.flights.items() if not flight.received)
        number = [command.command_id for command in self.store.of(AGENT)].index(command_id)
        self.pass_deadline(number)
        self.end_delays()
        if any(command.ready for command in self.store.of(AGENT)):
            self.claim(3)
        if parts and self.rivals():
            self.report_rivals(0, [(part, is_old, 0) for part, is_old in parts])

    @rule(full=st.booleans())
    def fill(self, full: bool) -> None:
        self.model.full = self.gateway.output.full = full

    # The agent

    @precondition(lambda self: self.stream)
    @rule(picks=st.lists(st.tuples(PARTS, st.integers(0, 9), WHICH, st.integers(0, 9), WHERE), min_size=1, max_size=4))
    def report(self, picks: Sequence[tuple[str, int, str, int, str]]) -> None:
        """One message."""
        ends = dict(self.printed)
        self.say([self.draft(ends, *pick) for pick in picks], ends)

    @precondition(lambda self: self.stream and self.rivals())
    @rule(
        number=st.integers(0, 9),
        picks=st.lists(st.tuples(RIVAL_PARTS, st.booleans(), st.integers(0, 9)), min_size=2, max_size=4),
    )
    def report_rivals(self, number: int, picks: Sequence[tuple[str, bool, int]]) -> None:
        """One message about two attempts of one command."""
        rivals = self.rivals()
        current, old = rivals[number % len(rivals)]
        ends = dict(self.printed)
        drafts = [
            self.draft_of(ends, part, old if is_old else current, choice, "end") for part, is_old, choice in picks
        ]
        self.say(drafts, ends)

    def rivals(self) -> list[tuple[LeaseRef, LeaseRef]]:
        """Attempts in flight, each with an earlier one of the same command."""
        return [
            (LeaseRef(command_id, flight.lease_id), old)
            for command_id, flight in self.model.flights.items()
            for old in self.leases
            if old.command_id == command_id and old.lease_id != flight.lease_id
        ]

    def say(self, said: Sequence[Said], ends: dict[LeaseRef, int]) -> None:
        """Send a message and compare the answers; `ends` is how far the agent has then sent its output."""
        assert self.stream
        expected = self.model.say(said)
        is_open = self.run(self.stream.say(message(said)))
        assert is_open != bool(expected.violation)
        self.compare(expected)
        if is_open:
            self.printed = ends
            self.relay()
        else:
            error = self.stream.error
            assert isinstance(error, InvalidArgument)
            assert (error.reason, error.field) == ("PROTOCOL_VIOLATION", expected.violation)
            self.stream = None
            self.model.leave()

    @rule(number=st.integers(0, 9), part=st.sampled_from(["received", "started"]))
    def behave(self, number: int, part: str) -> None:
        """What is rare by chance: the agent takes a command as it should."""
        flights = [*self.model.flights.items()]
        if self.stream and flights:
            command_id, flight = flights[number % len(flights)]
            said = [Said(part, LeaseRef(command_id, flight.lease_id))]
            self.model.say(said)
            assert self.run(self.stream.say(message(said)))

    @precondition(lambda self: self.model.flights)
    @rule(number=st.integers(0, 9), sizes=st.lists(st.integers(1, WINDOW + 1), min_size=2, max_size=5))
    def print_much(self, number: int, sizes: Sequence[int]) -> None:
        """What is rare by chance: much output of one attempt."""
        lease, ends = self.lease(number, "current"), dict(self.printed)
        for size in sizes:
            if self.stream:
                self.say([self.draft_of(ends, "output", lease, size - 1, "end")], ends)

    @precondition(lambda self: self.model.flights)
    @rule(number=st.integers(0, 9), sizes=st.lists(st.integers(1, WINDOW), max_size=3))
    def print_to_the_limit(self, number: int, sizes: Sequence[int]) -> None:
        """What is rare by chance: offsets of which the sum with those of earlier attempts is not exact."""
        lease = self.lease(number, "current")
        self.attach([(lease, True, LIMIT)], goodbye=False, supersede=False)
        ends = dict(self.printed)
        for size in sizes:
            if self.stream:
                self.say([self.draft_of(ends, "output", lease, size - 1, "limit")], ends)

    @precondition(lambda self: self.model.flights)
    @rule(number=st.integers(0, 9), printed=st.integers(0, 3), then=st.sampled_from(["", "transient", "completed"]))
    def run_again(self, number: int, printed: int, then: str) -> None:
        """What is rare by chance: a second run, and then perhaps a result of the first."""
        lease, starts = self.lease(number, "current"), number % 2 == 0
        if printed:
            ends = dict(self.printed)
            self.say([self.draft_of(ends, "output", lease, printed - 1, "end")], ends)
        if not self.stream:
            return
        self.say([Said("results", lease, "transient")], self.printed)
        self.end_delays()
        if any(command.ready for command in self.store.of(AGENT)):
            self.claim(3)
        if starts and lease.command_id in self.model.flights:
            current = LeaseRef(lease.command_id, self.model.flights[lease.command_id].lease_id)
            self.say([Said("started", current)], self.printed)
        if then:
            self.say([Said("results", lease, then)], self.printed)

    @precondition(lambda self: self.model.flights)
    @rule(
        number=st.integers(0, 9),
        then=st.sampled_from([("refused", "busy"), ("refused", "duplicate"), ("cancel_reports", "unknown")]),
        together=st.booleans(),
    )
    def contradict(self, number: int, then: tuple[str, str], together: bool) -> None:
        """What is rare by chance: a start, and what denies it before its receipt is stored."""
        lease = self.lease(number, "current")
        said = [Said("started", lease), Said(then[0], lease, then[1])]
        for some in [said] if together else [said[:1], said[1:]]:
            self.say(some, self.printed)
        self.settle()

    @precondition(lambda self: self.model.flights)
    @rule(number=st.integers(0, 9), kind=st.sampled_from(list(REFUSALS)), together=st.booleans())
    def refuse_and_end(self, number: int, kind: str, together: bool) -> None:
        """What is rare by chance: a refused command that has a result."""
        lease = self.lease(number, "current")
        said = [Said("refused", lease, kind), Said("results", lease, "completed")]
        for some in [said] if together else [said[:1], said[1:]]:
            self.say(some, self.printed)

    @rule(
        held=st.lists(
            st.tuples(st.integers(0, 9), WHICH, st.booleans(), st.sampled_from(["end", "more", "most", "none"])),
            max_size=4,
        ),
        goodbye=st.booleans(),
        supersede=st.booleans(),
    )
    def reconnect(self, held: Sequence[tuple[int, str, bool, str]], goodbye: bool, supersede: bool) -> None:
        listed: dict[LeaseRef, tuple[bool, int]] = {}
        for number, which, is_running, produced in held:
            lease = self.lease(number, which)
            end = self.printed.get(lease, 0)
            listed[lease] = (
                is_running,
                {"end": min(end, LIMIT), "more": min(end + 7, LIMIT), "most": LIMIT, "none": 0}[produced],
            )
        self.attach([(lease, *how) for lease, how in listed.items()], goodbye, supersede)

    @precondition(lambda self: self.model.flights)
    @rule(produced=st.sampled_from([0, 0, 3, LIMIT]), supersede=st.booleans())
    def resume(self, produced: int, supersede: bool) -> None:
        """What is rare by chance: the agent keeps all that it has."""
        leases = [LeaseRef(command_id, flight.lease_id) for command_id, flight in self.model.flights.items()]
        held = [(lease, True, min(LIMIT, self.printed.get(lease, 0) + produced)) for lease in leases]
        self.attach(held, goodbye=False, supersede=supersede)

    def attach(self, held: Sequence[tuple[LeaseRef, bool, int]], goodbye: bool, supersede: bool) -> None:
        self.settle()
        old, self.stream = self.stream, None
        if old and not supersede:
            self.run(self.part(old, goodbye))
        # In the order in which a Hello has them.
        held = sorted(held, key=lambda one: not one[1])
        ended = {lease.command_id for lease, _, _ in held if self.ended_otherwise(lease)}
        adopted, counted = self.model.attach([(lease, produced) for lease, _, produced in held])
        lists: dict[bool, list[pb.RunningCommand]] = {True: [], False: []}
        for lease, is_running, produced in held:
            one = pb.RunningCommand(command_id=lease.command_id, lease_id=lease.lease_id, output_offset=produced)
            lists[is_running].append(one)
        said = hello(AGENT, running=lists[True], unacknowledged=lists[False])
        self.stream = self.run(self.opened(said))
        if old and supersede:
            self.run(old.ended())
        self.heard = {}
        assert [(one.command_id, one.verdict, one.output_offset) for one in self.stream.welcome.verdicts] == [
            self.verdict(lease.command_id, adopted, counted, ended if not is_running else set())
            for lease, is_running, _ in held
        ]
        self.expect_cancels(
            [
                LeaseRef(command_id, flight.lease_id)
                for command_id, flight in self.model.flights.items()
                if flight.cancelled
            ]
        )

    async def opened(self, said: pb.Hello) -> MemoryStream:
        stream = MemoryStream(self.gateway.gateway, said)
        assert await stream.open()
        await stream.welcomed()
        return stream

    async def part(self, stream: MemoryStream, goodbye: bool) -> None:
        if goodbye:
            self.model.goodbye()
            stream.context.say(pb.ConnectRequest(goodbye=pb.Goodbye(reason="test")))
        self.model.leave()
        await stream.cut()

    def ended_otherwise(self, lease: LeaseRef) -> bool:
        """Whether the agent's command has ended, and a result under this lease is to be kept as late."""
        command = self.store.commands.get(lease.command_id)
        if not command or command.agent_id != AGENT or not command.status.terminal:
            return False
        return command.status is not CommandStatus.COMPLETED or command.lease_id != lease.lease_id

    def verdict(self, command_id: str, adopted: set[str], counted: set[str], ended: set[str]) -> tuple[str, int, int]:
        if command_id in adopted:
            command = self.store.commands[command_id]
            return command_id, pb.VERDICT_KEEP, command.output_bytes - command.output_base
        if command_id in ended and command_id not in counted:
            return command_id, pb.VERDICT_KEEP, 0
        return command_id, pb.VERDICT_STORED if command_id in counted else pb.VERDICT_STOP, 0

    # What the agent says

    def lease(self, number: int, which: str) -> LeaseRef:
        current = [LeaseRef(command_id, flight.lease_id) for command_id, flight in self.model.flights.items()]
        match which:
            case "current" if current:
                return current[number % len(current)]
            case "foreign":
                return self.foreign
            case "made up":
                return LeaseRef(self.command(number).command_id, "made up")
            case "none":
                return LeaseRef(self.command(number).command_id, "")
            case "unknown":
                return LeaseRef("00000000-0000-7000-8000-000000000000", "lease1")
            case _:
                return self.leases[number % len(self.leases)]

    def draft(self, ends: dict[LeaseRef, int], part: str, number: int, which: str, choice: int, where: str) -> Said:
        return self.draft_of(ends, part, self.lease(number, which), choice, where)

    def draft_of(self, ends: dict[LeaseRef, int], part: str, lease: LeaseRef, choice: int, where: str) -> Said:
        match part:
            case "refused":
                return Said(part, lease, list(REFUSALS)[choice % len(REFUSALS)])
            case "results":
                return Said(part, lease, ["completed", "failed", "transient", "transient", "cancelled"][choice % 5])
            case "cancel_reports":
                return Said(part, lease, "unknown" if choice % 3 else "stopping")
            case "output":
                size, end = choice + 1, ends.get(lease, 0)
                offset = {
                    "end": end,
                    "start": 0,
                    "behind": max(0, end - choice),
                    "ahead": end + 1 + choice,
                    "far": 10**15 + choice,
                    "limit": LIMIT - size,
                    "beyond": LIMIT - size + 1,
                    "negative": -1,
                }[where]
                ends[lease] = max(end, offset + size) if where != "beyond" else end
                return Said(part, lease, offset=offset, data=data(lease, offset, size))
            case _:
                return Said(part, lease)

    # What it hears

    def news(self, part: str, count: int) -> list[Any]:
        """The parts of this kind that came since the last look: exactly as many as expected."""
        assert self.stream
        before = self.heard.get(part, 0)
        found = self.run(self.stream.hears(part, before + count))[before:]
        assert len(found) == count, found
        self.heard[part] = before + count
        return list(found)

    def expect_cancels(self, leases: Sequence[LeaseRef]) -> None:
        cancels = self.news("cancels", len(leases))
        assert {(one.command_id, one.lease_id, one.reason) for one in cancels} == {
            (*lease, reason_of(lease.command_id)) for lease in leases
        }

    def compare(self, expected: Replies) -> None:
        acks = self.news("result_acks", len(expected.results))
        assert [(one.command_id, one.lease_id, one.verdict, one.reason.code) for one in acks] == [
            (*lease, *OUTCOMES[outcome]) for lease, outcome in map(ResultReply._make, expected.results)
        ]
        outputs = self.news("output_acks", len(expected.outputs) if not expected.violation else 0)
        if not expected.violation:
            assert [
                OutputReply(LeaseRef(one.command_id, one.lease_id), one.offset, one.reason.code) for one in outputs
            ] == list(expected.outputs.values())

    # What must hold after every step

    @invariant()
    def the_session_has_in_flight_what_the_model_has(self) -> None:
        agent = self.gateway.registry.get(AGENT)
        assert (agent is None) == (self.stream is None)
        if agent is not None:
            known = {one: (f.lease_id, f.received, f.started) for one, f in self.model.flights.items()}
            assert {
                one: (item.lease_id, item.acknowledged is not None, item.started is not None)
                for one, item in agent.session.in_flight.items()
            } == known

    @invariant()
    def the_store_has_what_the_model_has(self) -> None:
        for command in self.store.commands.values():
            fields = self.run(self.world.hash(command.command_id))
            assert (fields["status"], fields["attempt"]) == (command.status, str(command.attempt))
            assert fields.get("output_bytes", "0") == str(command.output_bytes)
            if command.cancel_requested and command.status is CommandStatus.ASSIGNED:
                assert fields["message"] == reason_of(command.command_id)

    @rule()
    def settle(self) -> None:
        """Receipts may wait for a moment, but none is lost."""
        self.run(self.gateway.settle(AGENT))
        for command in self.store.commands.values():
            if command.status is CommandStatus.ASSIGNED:
                fields = self.run(self.world.hash(command.command_id))
                receipts = fields.get("acknowledged_ms"), fields.get("started_ms")
                assert tuple(map(bool, receipts)) == (command.acknowledged, command.started)

    def teardown(self) -> None:
        """No byte of output is lost, doubled or out of place."""
        self.settle()
        if self.stream:
            self.run(self.stream.cut())
        for command in self.store.commands.values():
            chunks = self.run(self.world.output.read(command.command_id, 0, 1 << 30))
            stored = {chunk.offset + n: byte for chunk in chunks for n, byte in enumerate(chunk.data)}
            dropped = int(self.run(self.world.hash(command.command_id)).get("output_dropped", 0))
            content = self.model.content.get(command.command_id, {})
            # What was dropped as the oldest is behind a jump of offsets.
            assert stored == {offset: byte for offset, byte in content.items() if offset >= dropped}


def reason_of(command_id: str) -> str:
    """The reason of the caller who cancels this command."""
    return f"no need of {command_id}"


def data(lease: LeaseRef, offset: int, size: int) -> bytes:
    """Bytes that tell where they belong."""
    return bytes((offset + n + sum(lease.lease_id.encode())) % 251 for n in range(size))


def message(said: Sequence[Said]) -> pb.ConnectRequest:
    """The parts in one message."""
    request = pb.ConnectRequest()
    for one in said:
        part = getattr(request, one.part).add(command_id=one.lease.command_id, lease_id=one.lease.lease_id)
        match one.part:
            case "refused":
                part.code = REFUSALS[one.how]
            case "results":
                part.transient = one.how == "transient"
                status = "failed" if part.transient else one.how
                part.status = command_pb2.CommandStatus.Value(f"COMMAND_STATUS_{status.upper()}")
            case "cancel_reports":
                part.finding = pb.CANCEL_FINDING_UNKNOWN if one.how == "unknown" else pb.CANCEL_FINDING_STOPPING
            case "output":
                part.stream, part.offset, part.data = command_pb2.OUTPUT_STREAM_STDOUT, one.offset, one.data
            case _:
                pass
    return request


async def bounded(step: Awaitable[Any]) -> Any:
    """Await a step that would otherwise hang where the server hangs."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await step


@pytest.mark.timeout(300)
def test_a_hostile_agent(valkey_url: str) -> None:
    loop = asyncio.new_event_loop()
    connections = StoreConnections.to(valkey_url)

    class Machine(HostileMachine):
        def __init__(self) -> None:
            super().__init__(lambda step: loop.run_until_complete(bounded(step)), connections)

    try:
        run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=50))
    finally:
        loop.run_until_complete(connections.close())
        loop.close()
