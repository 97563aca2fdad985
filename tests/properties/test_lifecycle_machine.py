"""The life of commands: the store on a real Valkey beside a model of it, under any order of what can happen.

After every step the whole of Valkey is compared with what the model and the headers of the functions say must be in
it; nothing else may be there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from distributor.model.agent import AgentHello, HeldCommand
from distributor.model.command import CommandState, Reason
from distributor.model.delivery import ClaimRequest, CompletionOutcome, OutputPiece, Progress, Release
from distributor.model.event import CommandChanged
from distributor.model.known_states import KnownStates
from distributor.model.lifecycle import CommandStatus, Operation, allowed
from distributor.model.queueing import QueueOutcome
from distributor.store import keys
from distributor.store.connections import StoreConnections
from distributor.store.policy import StorePolicy
from tests.support.inside_loop import Inside
from tests.support.lifecycle_model import LifecycleModel, ModelCommand
from tests.support.store_world import ENCODED, TERMINAL, Dump, StoreWorld, completion

AGENTS = ["agent1", "agent2"]
POLICY = StorePolicy(queue_limit=4, delivery_attempts=3, ack_deadline_ms=3_600_000)
LATER_MS = 3_600_000
COMMANDS = st.integers(0, 50)
WRONG = st.sampled_from(["", "", "", "", "", "lease", "agent"])
NEVER_A_LEASE = "no such lease"
Reply = TypeVar("Reply")


class LifecycleMachine(RuleBasedStateMachine):
    """Plays callers, agents, distributors and the clock. Commands are picked by number, so that examples shrink."""

    def __init__(self, run: Callable[[Awaitable[Any]], Any], connections: StoreConnections) -> None:
        super().__init__()
        self.run = run
        run(connections.reads.call("FLUSHALL"))
        self.world = StoreWorld(connections, POLICY)
        self.store, self.sessions, self.output = map(Inside, (self.world.store, self.world.sessions, self.world.output))
        self.known = KnownStates()
        self.merged: dict[str, CommandState] = {}
        self.read = 0
        self.model = LifecycleModel(POLICY.queue_limit, POLICY.delivery_attempts)
        self.leases = (f"lease{number}" for number in itertools.count(1))
        self.statuses: dict[str, CommandStatus] = {}
        self.ended: dict[str, tuple[Any, Any]] = {}
        self.instances = dict.fromkeys(AGENTS, 1)
        self.look_at_deadlines()
        for agent_id in AGENTS:
            self.attach(agent_id, [])
            self.enqueue(agent_id, [50, 50], max_runs=2)
            self.claim(agent_id, max_commands=1, epochs_ago=0)

    def command(self, number: int) -> ModelCommand:
        """Mostly one that an agent has, where there is one: most can happen to those."""
        commands = list(self.model.commands.values())
        assigned = [command for command in commands if command.status is CommandStatus.ASSIGNED]
        choice = assigned if assigned and number % 4 else commands
        return choice[number % len(choice)]

    # Callers

    @rule(
        agent_id=st.sampled_from(AGENTS),
        priorities=st.lists(st.sampled_from([0, 50, 100]), min_size=1, max_size=3),
        max_runs=st.integers(1, 2),
    )
    def enqueue(self, agent_id: str, priorities: list[int], max_runs: int) -> None:
        new = [self.world.new(agent_id, priority=priority, max_runs=max_runs) for priority in priorities]
        answers = self.run(self.store.enqueue(new))
        for command, answer in zip(new, answers, strict=True):
            shadow = ModelCommand(command.command_id, agent_id, command.priority, max_runs, len(self.model.commands))
            expected = QueueOutcome.QUEUED if self.model.enqueue(shadow) else QueueOutcome.QUEUE_FULL
            assert answer.outcome is expected

    @rule(number=COMMANDS)
    def cancel(self, number: int) -> None:
        self.cancel_this(self.command(number))

    def cancel_this(self, command: ModelCommand) -> None:
        self.model.cancel(command)
        state = self.run(self.store.cancel(command.command_id, "not wanted"))
        assert state.status is command.status

    # Distributors

    @rule(
        agent_id=st.sampled_from(AGENTS),
        max_commands=st.sampled_from([4, 2, 1, 0]),
        epochs_ago=st.sampled_from([0, 0, 0, 1]),
    )
    def claim(self, agent_id: str, max_commands: int, epochs_ago: int) -> None:
        epoch, lease_id = self.model.epochs[agent_id] - epochs_ago, next(self.leases)
        expected = self.model.claim(agent_id, epoch, max_commands, lease_id)
        (claim,) = self.run(self.store.claim([ClaimRequest(agent_id, epoch, max_commands, lease_id)]))
        assert claim.superseded == (expected is None)
        assert [given.command_id for given in claim.commands] == (expected or [])
        assert all(given.attempt == self.model.commands[given.command_id].attempt for given in claim.commands)

    @precondition(lambda self: any(not command.acknowledged for command in self.waiting()))
    @rule(number=COMMANDS)
    def give_up(self, number: int) -> None:
        """An attempt is not acknowledged in time."""
        sent = [command for command in self.waiting() if not command.acknowledged]
        self.pass_its_deadline(sent[number % len(sent)])

    def waiting(self) -> list[ModelCommand]:
        """Assigned commands that are not in doubt."""
        return [c for c in self.model.commands.values() if c.status is CommandStatus.ASSIGNED and not c.doubt]

    @rule(number=COMMANDS)
    def pass_deadline(self, number: int) -> None:
        self.pass_its_deadline(self.command(number))

    def pass_its_deadline(self, command: ModelCommand) -> None:
        if command.status.terminal:
            return
        self.model.pass_deadline(command)
        self.run(self.world.pass_deadline(command.command_id))
        _, done = self.run(self.store.due([LATER_MS] * POLICY.delivery_attempts))
        assert done == [(command.command_id, command.agent_id, command.status)]
        if not command.status.terminal:
            # It is not to expire now, should it go on.
            self.run(self.world.set_field(command.command_id, "expires_ms", 10**15))

    @precondition(lambda self: any(command.delayed for command in self.model.commands.values()))
    @rule(number=COMMANDS)
    def end_delay(self, number: int) -> None:
        delayed = [c for c in self.model.commands.values() if c.status is CommandStatus.QUEUED and c.delayed]
        if delayed:
            self.end_its_delay(delayed[number % len(delayed)])

    def end_its_delay(self, command: ModelCommand) -> None:
        command.delayed = False
        self.run(self.world.end_delay(command.command_id))
        self.run(self.store.due([LATER_MS]))

    def look_at_deadlines(self) -> None:
        """A server does so from now on: slow examples are no outages."""
        self.run(self.store.due([LATER_MS]))
        looked = self.run(self.world.now_ms()) + LATER_MS
        self.run(self.world.connection.call("HSET", keys.DUE_PASSES, "last_ms", looked))

    def given_up(self) -> list[ModelCommand]:
        """Queued commands with an attempt that their agents may have started."""
        commands = self.model.commands.values()
        return [one for one in commands if one.status is CommandStatus.QUEUED and self.model.may_run(one)]

    @precondition(lambda self: self.given_up())
    @rule(number=COMMANDS, then=st.sampled_from(["cancel", "deadline", ""]))
    def outage(self, number: int, then: str) -> None:
        """No server, for longer than what was given up before could run; then one of those is to end."""
        for command in self.model.commands.values():
            if command.given_up and not command.status.terminal:
                self.run(self.world.set_field(command.command_id, "doubt_until", 1))
        for agent_id in AGENTS:
            self.run(self.world.silence(agent_id))
        self.run(self.world.connection.call("HSET", keys.DUE_PASSES, "last_ms", 1))
        self.look_at_deadlines()
        self.model.outage()
        given_up = self.given_up()
        command = given_up[number % len(given_up)]
        if then == "cancel":
            self.cancel_this(command)
        elif then == "deadline":
            self.pass_its_deadline(command)

    @precondition(lambda self: self.given_up())
    @rule(number=COMMANDS, proven=st.booleans())
    def come_back_without_record(self, number: int, proven: bool) -> None:
        """An agent that may have started a command loses its record, perhaps after it has proven that it did not."""
        given_up = self.given_up()
        agent_id = given_up[number % len(given_up)].agent_id
        if proven:
            self.attach(agent_id, [])
        self.detach(agent_id, 0)
        self.attach(agent_id, [], lost=True)
        for command in self.model.of(agent_id):
            if command.status is CommandStatus.QUEUED and command.delayed:
                self.end_its_delay(command)
        self.claim(agent_id, max_commands=4, epochs_ago=0)

    @rule()
    def patience_ends(self) -> None:
        self.run(self.world.connection.call("HSET", keys.DUE_PASSES, "gap_ended_ms", 0))
        self.model.patience_ends()

    @rule()
    def sweep(self) -> None:
        assert self.run(self.store.forget("")) == (0, "")

    # Agents

    @rule(
        agent_id=st.sampled_from(AGENTS),
        kept=st.lists(COMMANDS, max_size=4),
        unacknowledged=st.booleans(),
        lost=st.booleans(),
    )
    def attach(self, agent_id: str, kept: list[int], unacknowledged: bool = False, lost: bool = False) -> None:
        """The agent holds some of its commands still, and says so of some that are not its own, or no longer.

        With `unacknowledged` it has the results of all runs that are counted already, too, and of the attempts that
        were given up. With `lost` it was away and comes without its record.
        """
        held = {(c.command_id, c.lease_id) for c in (self.command(number) for number in kept)}
        if unacknowledged:
            held |= {(c.command_id, lease) for c in self.model.commands.values() for lease in c.counted_lease.split()}
            held |= {(c.command_id, lease_id) for c in self.model.commands.values() for lease_id in c.given_up}
        items = tuple(itertools.starmap(HeldCommand, sorted(held)))
        lost &= self.model.connected.get(agent_id, 0) is None
        self.instances[agent_id] += lost
        expected, counted = self.model.attach(agent_id, sorted(held), lost)
        hello = AgentHello(agent_id, f"instance{self.instances[agent_id]}", 5, (), {}, "", items)
        attached = self.run(self.sessions.attach(hello))
        assert attached.epoch == self.model.epochs[agent_id]
        assert (set(attached.adopted), attached.counted) == (expected, counted)
        for command_id, adopted in attached.adopted.items():
            command = self.model.commands[command_id]
            assert adopted.output_bytes == command.output_bytes - command.output_base
            assert adopted.cancel_reason == ("not wanted" if command.cancel_requested else None)

    @rule(agent_id=st.sampled_from(AGENTS), epochs_ago=st.sampled_from([1, 1, 0]))
    def detach(self, agent_id: str, epochs_ago: int) -> None:
        epoch = self.model.epochs[agent_id] - epochs_ago
        assert self.run(self.sessions.detach([(agent_id, epoch)])) == [self.model.detach(agent_id, epoch)]

    @rule(number=COMMANDS, wrong=WRONG, started=st.booleans())
    def progress(self, number: int, wrong: str, started: bool) -> None:
        command, agent_id, lease_id = self.reporting(number, wrong)
        expected = self.model.progress(command, agent_id, lease_id, started)
        report = Progress(command.command_id, agent_id, lease_id, 1, 2, 3 if started else None)
        assert self.run(self.store.progress([report])) == [expected]

    @rule(
        number=COMMANDS,
        wrong=WRONG,
        status=st.sampled_from(TERMINAL),
        again=st.booleans(),
        ran=st.booleans(),
    )
    def finish(self, number: int, wrong: str, status: CommandStatus, again: bool, ran: bool) -> None:
        command, agent_id, lease_id = self.reporting(number, wrong)
        self.report_the_end(command, (agent_id, lease_id), status, again, ran)

    @precondition(lambda self: any(command.given_up for command in self.model.commands.values()))
    @rule(
        number=COMMANDS, status=st.sampled_from(TERMINAL), again=st.booleans(), ran=st.sampled_from([True, True, False])
    )
    def report_a_given_up_attempt(self, number: int, status: CommandStatus, again: bool, ran: bool) -> None:
        given_up = [command for command in self.model.commands.values() if command.given_up]
        command = given_up[number % len(given_up)]
        leases = list(command.given_up)
        self.report_the_end(command, (command.agent_id, leases[number % len(leases)]), status, again, ran)

    def report_the_end(
        self, command: ModelCommand, held_by: tuple[str, str], status: CommandStatus, again: bool, ran: bool
    ) -> None:
        expected = self.model.finish(command, held_by, status, again, ran)
        rerun_delay_ms = LATER_MS if again else None
        report = completion(command.command_id, status, *held_by, rerun_delay_ms=rerun_delay_ms, ran=ran)
        assert self.run(self.store.finish([report])) == [expected]
        if expected is CompletionOutcome.STORED:
            assert command.status is status

    @precondition(lambda self: any(command.counted_lease for command in self.model.commands.values()))
    @rule(number=COMMANDS)
    def report_a_counted_run_again(self, number: int) -> None:
        counted = [command for command in self.model.commands.values() if command.counted_lease]
        command = counted[number % len(counted)]
        leases = command.counted_lease.split()
        reported = (command.agent_id, leases[number % len(leases)])
        expected = self.model.finish(command, reported, CommandStatus.FAILED, again=True, ran=True)
        report = completion(command.command_id, CommandStatus.FAILED, *reported, rerun_delay_ms=LATER_MS, ran=True)
        assert self.run(self.store.finish([report])) == [expected]

    @rule(
        number=COMMANDS,
        wrong=WRONG,
        delayed=st.booleans(),
        counts=st.booleans(),
        word=st.sampled_from(["refused", "unsent", ""]),
    )
    def release(self, number: int, wrong: str, delayed: bool, counts: bool, word: str) -> None:
        command, agent_id, lease_id = self.reporting(number, wrong)
        self.say_that_it_is_not_taken(command, (agent_id, lease_id), delayed, counts, word)

    @precondition(lambda self: any(command.doubt for command in self.model.commands.values()))
    @rule(number=COMMANDS, lease=st.integers(0, 3), heard=st.sampled_from(["absent", "refused", "received", "started"]))
    def hear_of_one_in_doubt(self, number: int, lease: int, heard: str) -> None:
        """Under one of the leases that its agent may have."""
        doubtful = [command for command in self.model.commands.values() if command.doubt]
        command = doubtful[number % len(doubtful)]
        leases = list(command.given_up) or [command.lease_id]
        lease_id = leases[lease % len(leases)]
        if heard == "absent":
            self.report_that_it_is_absent(command, lease_id)
        elif heard == "refused":
            self.say_that_it_is_not_taken(command, (command.agent_id, lease_id), True, True, "refused")
        else:
            expected = self.model.progress(command, command.agent_id, lease_id, heard == "started")
            report = Progress(command.command_id, command.agent_id, lease_id, 1, 2, 3 if heard == "started" else None)
            assert self.run(self.store.progress([report])) == [expected]

    @rule(number=COMMANDS)
    def not_found(self, number: int) -> None:
        command = self.command(number)
        self.report_that_it_is_absent(command, command.lease_id)

    def report_that_it_is_absent(self, command: ModelCommand, lease_id: str) -> None:
        expected = self.model.not_found(command, command.agent_id, lease_id)
        report = completion(command.command_id, CommandStatus.CANCELLED, command.agent_id, lease_id, absent=True)
        assert self.run(
            self.store.finish([report._replace(progress=report.progress._replace(started_after_ms=None))])
        ) == [expected]

    def say_that_it_is_not_taken(
        self, command: ModelCommand, held_by: tuple[str, str], delayed: bool, counts: bool, word: str
    ) -> None:
        expected = self.model.release(command, held_by, delayed, counts, word)
        delay_ms = LATER_MS if delayed else 0
        item = Release(
            command.command_id,
            *held_by,
            delay_ms,
            Reason("busy"),
            counts,
            refused=word == "refused",
            unsent=word == "unsent",
        )
        assert self.run(self.store.release([item])) == [expected]

    @rule(
        number=COMMANDS,
        wrong=WRONG,
        earlier=st.booleans(),
        back=st.integers(0, 3),
        size=st.integers(1, 5),
    )
    def print_output(self, number: int, wrong: str, earlier: bool, back: int, size: int) -> None:
        command, agent_id, lease_id = self.reporting(number, wrong)
        base = command.output_base
        if earlier and command.given_up:
            lease_id, base = next(iter(command.given_up.items()))
        offset = max(0, command.output_bytes - base - back)
        expected = self.model.append_output(command, agent_id, lease_id, offset, size)
        piece = OutputPiece(command.command_id, agent_id, lease_id, 1, offset, b"x" * size)
        assert self.run(self.output.append([piece])) == [expected]

    def reporting(self, number: int, wrong: str) -> tuple[ModelCommand, str, str]:
        """A command, and who reports on it under which lease: its own, unless that is to be wrong."""
        command = self.command(number)
        other = AGENTS[1 - AGENTS.index(command.agent_id)]
        lease_id = NEVER_A_LEASE if wrong == "lease" else command.lease_id
        return command, other if wrong == "agent" else command.agent_id, lease_id

    # What must hold after every step

    @invariant()
    def valkey_holds_what_the_model_says_and_nothing_else(self) -> None:
        dump = self.run(self.world.dump())
        for command in self.model.commands.values():
            self.check_command(dump, command)
        live = {c.command_id for c in self.model.commands.values() if not c.status.terminal}
        assert members(dump, keys.DEADLINES) == live
        assert members(dump, keys.ENDED) == {c.command_id for c in self.model.commands.values() if c.status.terminal}
        for status in CommandStatus:
            expected = {c.command_id for c in self.model.commands.values() if c.status is status}
            assert members(dump, keys.BY_STATUS.format(status=status)) == expected
        for agent_id in AGENTS:
            mine = self.model.of(agent_id)
            assert members(dump, keys.AGENT_COMMANDS.format(agent_id=agent_id)) == {c.command_id for c in mine}
            assert members(dump, keys.READY.format(agent_id=agent_id)) == {c.command_id for c in mine if c.ready}
            delayed = {c.command_id for c in mine if c.status is CommandStatus.QUEUED and c.delayed}
            assert members(dump, keys.DELAYED.format(agent_id=agent_id)) == delayed
            assigned = {c.command_id for c in mine if c.status is CommandStatus.ASSIGNED}
            assert members(dump, keys.ASSIGNED.format(agent_id=agent_id)) == assigned
            assert dump.pop(keys.SESSION.format(agent_id=agent_id))[2]
        dump.pop(keys.EVENTS)
        dump.pop(keys.AGENTS)
        assert dump == {}

    def check_command(self, dump: Dump, command: ModelCommand) -> None:
        """Take all keys of this command out of the dump, and look at each."""
        command_id, terminal = command.command_id, command.status.terminal
        _, fields, expires = status = dump.pop(keys.STATUS.format(command_id=command_id))
        assert (fields["status"], fields["attempt"]) == (command.status, str(command.attempt))
        assert (fields.get("cancel_ms", "") != "") == command.cancel_requested
        assert fields.get("output_bytes", "0") == str(command.output_bytes)
        assert (fields.get("code") == "unconfirmed") == command.doubt
        assert (fields.get("runs", "0"), fields.get("counted_lease", "")) == (str(command.runs), command.counted_lease)
        assert not expires
        remembered = [json.loads(line)[0] for line in fields.get("attempts", "").splitlines()]
        others = {number for number in range(1, command.latest + 1) if number != command.attempt}
        if command.status is CommandStatus.ASSIGNED:
            assert sorted(remembered) == sorted(others)[-20:]
        else:
            assert others <= set(remembered)
            assert len(remembered) == len(set(remembered))
        _, kept, expires = dump.pop(keys.AGENT_COMMAND.format(command_id=command_id, agent_id=command.agent_id))
        assert not expires
        waiting = dump.pop(keys.COMMAND.format(command_id=command_id), None)
        encoded = ENCODED.decode("latin-1")
        assert (waiting and waiting[1], kept) == ((None, encoded) if terminal else (encoded, "1"))
        result = dump.pop(keys.RESULT.format(command_id=command_id), None)
        assert (result is not None and result[2]) == terminal
        assert (dump.pop(keys.OUTPUT.format(command_id=command_id), None) is not None) == (command.output_bytes > 0)
        dump.pop(keys.LATE_RESULT.format(command_id=command_id), None)
        if terminal:
            assert self.ended.setdefault(command_id, (status, result)) == (status, result), "an end never changes"
        before = self.statuses.get(command_id, CommandStatus.QUEUED)
        changed = before is not command.status
        assert not changed or any(allowed(operation, before, command.status) for operation in Operation)
        self.statuses[command_id] = command.status

    @invariant()
    def the_changes_that_replies_tell_give_every_state(self) -> None:
        """Each is of the next revision, and merging it gives what a reader reads."""
        changes = [
            event
            for batch in self.world.told[self.read :]
            for event in batch.events
            if isinstance(event, CommandChanged)
        ]
        self.read = len(self.world.told)
        for change in changes:
            before = self.merged.get(change.command_id)
            assert change.revision == (before.revision + 1 if before else 1)
            after = self.known.after(change)
            assert after is not None
            self.merged[change.command_id] = after
        states = self.run(self.world.reader.states(list(self.model.commands)))
        assert states == [self.merged.get(command_id) for command_id in self.model.commands]

    def teardown(self) -> None:
        """The stream has what the replies told."""
        assert self.run(self.world.events()) == [event for batch in self.world.told for event in batch.events]


def members(dump: Dump, key: str) -> set[str]:
    """What an index has; takes it out of the dump."""
    return set(dump.pop(key, ("", [], False))[1])


@pytest.mark.timeout(300)
def test_the_life_of_commands(valkey_url: str) -> None:
    loop = asyncio.new_event_loop()
    connections = StoreConnections.to(valkey_url)

    class Machine(LifecycleMachine):
        def __init__(self) -> None:
            super().__init__(loop.run_until_complete, connections)

    try:
        run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=40))
    finally:
        loop.run_until_complete(connections.close())
        loop.close()
