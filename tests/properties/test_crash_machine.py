"""Servers and an agent that crash, and a link that breaks, at any moment: what is promised of each command holds.

The agent's real session talks to the real gateway over a real Valkey; only gRPC, processes and clocks are left out. All
messages are in the hands of the machine: they arrive late, or their stream ends before. Time passes at the agent's
side only together with what it stands for: no deadline passes sooner than an agent can know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from distributor.agent.actions import StopCause
from distributor.model.lifecycle import CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.rpc import stream_writer
from distributor.store.connections import StoreConnections
from distributor.store.policy import StorePolicy
from distributor.v1 import command_pb2
from distributor.wire.enums import STATUS_FROM_WIRE
from tests.support.crashing_agent import CrashingAgent, output_of
from tests.support.crashing_replica import CrashingReplica
from tests.support.inside_loop import Inside
from tests.support.store_world import StoreWorld

AGENT = "agent1"
LATER_MS = 3_600_000
POLICY = StorePolicy(queue_limit=10, delivery_attempts=100, ack_deadline_ms=LATER_MS)
RETRY = RetryPolicy(100, LATER_MS, LATER_MS)
MOST_COMMANDS = 8
ACK_DEADLINE_SECONDS = 20.0
"""Longer than start_within: an agent that has heard nothing for so long starts nothing that was sent before."""
RUN_LIMIT_SECONDS = 400.0
ENOUGH_ROUNDS = 12
SETTINGS = settings(max_examples=50, stateful_step_count=40, phases=[Phase.explicit, Phase.generate])
"""Without shrinking, which takes minutes on a real Valkey."""
NUMBERS = st.integers(0, MOST_COMMANDS - 1)


class CrashMachine(RuleBasedStateMachine):
    """Plays callers, the link, handlers, crashes and deadlines.

    What the server writes depends on the moment at which its tasks run, so no choice depends on it: a rule that finds
    nothing to do does nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, valkey_url: str) -> None:
        super().__init__()
        self.loop = loop
        self.url = valkey_url
        self.connections = StoreConnections.to(valkey_url)
        self.run(self.connections.reads.call("FLUSHALL"))
        self.observer = StoreWorld(self.connections, POLICY)
        self.replica = CrashingReplica(valkey_url, POLICY, RETRY)
        self.agent = CrashingAgent(AGENT, self.run)
        self.commands: list[str] = []
        self.permitted: dict[str, int] = {}
        """How often each command may be started."""
        self.ends: dict[str, tuple[CommandStatus, Any]] = {}
        self.forgotten = False
        """Whether the agent has lost its journal and not been attached since."""
        self.crashed: set[str] = set()
        """Commands that their agent had, or may have had, when it crashed."""
        self.excused: set[str] = set()
        """Commands that need not run: cancelled, or out of time, or with their agent when it crashed."""
        self.enqueue(runs=1)
        self.connect()
        self.exchange()

    def run(self, work: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(work, 30)

        return self.loop.run_until_complete(bounded())

    def command(self, number: int) -> str:
        return self.commands[number % len(self.commands)]

    # Callers

    @rule(runs=st.sampled_from([1, 1, 3]))
    def enqueue(self, runs: int = 1) -> None:
        if len(self.commands) == MOST_COMMANDS:
            return
        new = self.observer.new(AGENT, max_runs=runs)
        encoded = command_pb2.Command(command_id=new.command_id, type="PRINT").SerializeToString()
        self.run(Inside(self.replica.world.store).enqueue([new._replace(encoded=encoded)]))
        self.commands.append(new.command_id)
        self.permitted[new.command_id] = runs

    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        self.excused.add(self.command(number))
        self.run(Inside(self.replica.world.store).cancel(self.command(number), "enough"))

    # The link

    @rule()
    def connect(self) -> None:
        if self.agent.state is not None:
            return
        hello = self.agent.hello()
        if self.forgotten:
            # Until now, commands may have been sent to the agent that has lost its journal.
            states = self.run(self.observer.reader.states(self.commands))
            self.crashed |= {state.command_id for state in states if state.attempt}
            self.excused |= self.crashed
        stream = self.run(self.replica.attach(hello))
        self.forgotten &= stream.error is not None
        self.agent.connected(stream)
        if stream.error is not None:
            # Another instance counts as live: it is silent for long enough the next time.
            self.agent.disconnect()
            self.run(self.observer.silence(AGENT))

    @rule()
    def claim(self) -> None:
        self.run(self.replica.claim(AGENT))

    @rule(count=st.integers(1, 3))
    def send(self, count: int) -> None:
        for _ in range(count):
            self.agent.send()

    @rule(count=st.integers(1, 3))
    def deliver_up(self, count: int) -> None:
        for _ in range(count):
            self.agent.deliver_up()

    @rule(count=st.integers(1, 3))
    def deliver_down(self, count: int) -> None:
        for _ in range(count):
            self.agent.deliver_down()

    @rule()
    def exchange(self) -> None:
        """Everything that is on its way arrives, and what answers it."""
        self.connect()
        for _ in range(100):
            self.settle()
            moved = [self.agent.commit(), self.agent.send(), self.agent.deliver_up(), self.agent.deliver_down()]
            if not any(moved):
                break

    @rule()
    def settle(self) -> None:
        """The server stores the receipts that it has gathered."""
        self.run(self.replica.settle(AGENT))

    @rule(half_open=st.booleans())
    def cut(self, half_open: bool) -> None:
        """The agent loses its stream; the server notices, unless the connection is half-open."""
        stream = self.agent.stream
        self.agent.disconnect()
        if stream is not None and not half_open:
            self.run(stream.cut())

    @rule(seconds=st.floats(0.1, 8.0))
    def heartbeat(self, seconds: float) -> None:
        self.agent.heartbeat(seconds)

    # What is rare by chance

    @rule(finished=st.booleans())
    def start_unheard(self, finished: bool) -> None:
        """Commands arrive, start and perhaps end, and the server has not heard of it."""
        self.enqueue()
        self.exchange()
        self.claim()
        self.settle()
        self.deliver_down(10)
        self.agent.commit()
        self.send(10)
        self.agent.commit()
        for command_id in list(self.agent.running) if finished else []:
            self.agent.finish(command_id)
        self.agent.commit()
        self.send(10)

    @rule(started=st.booleans(), cancelled=st.booleans(), cut=st.booleans())
    def give_up_unheard(self, started: bool, cancelled: bool, cut: bool) -> None:
        """Nothing is heard of a command until its deadline has passed; perhaps it is on its way, perhaps it runs."""
        if started:
            self.start_unheard(finished=False)
        else:
            self.enqueue()
            self.exchange()
            self.claim()
            self.settle()
        for number, command_id in enumerate(self.commands):
            self.pass_deadline(number)
            if cancelled and command_id in self.excused:
                self.cancel(number)
        if cut:
            self.cut(half_open=False)

    @rule(steps=st.integers(0, 7), journal_kept=st.booleans())
    def kill_agent_amid(self, steps: int, journal_kept: bool) -> None:
        """The agent dies somewhere between the arrival of commands and the reports of their results."""
        self.enqueue()
        self.exchange()
        self.claim()
        self.settle()
        self.deliver_down(10)

        def finish() -> None:
            for command_id in list(self.agent.running):
                self.agent.finish(command_id)

        def send() -> None:
            self.send(10)

        for step in [self.commit, send, self.commit, send, finish, self.commit, send][:steps]:
            step()
        self.kill_agent(half_open=False, journal_kept=journal_kept)

    @rule()
    def give_up_before_the_result(self) -> None:
        """The run limit of commands passes while their results are on their way."""
        self.enqueue()
        self.exchange()
        self.claim()
        self.exchange()
        for command_id in list(self.agent.running):
            self.agent.finish(command_id)
        self.agent.commit()
        self.send(10)
        for number in range(len(self.commands)):
            self.pass_deadline(number)

    @rule(count=st.integers(0, 3))
    def kill_server_without_valkey(self, count: int) -> None:
        """It reads results that it cannot store, and dies. What it answers to them must be true all the same."""
        self.start_unheard(finished=True)
        self.run(self.replica.lose_valkey())
        for _ in range(count):
            self.agent.deliver_up()
        self.run(asyncio.sleep(0.001))
        self.deliver_down(10)
        self.kill_server()

    # Handlers

    @rule(number=NUMBERS, size=st.integers(1, 40))
    def print(self, number: int, size: int) -> None:
        running = sorted(self.agent.running)
        if running:
            self.agent.print(running[number % len(running)], size)

    @rule(number=NUMBERS, transient=st.booleans())
    def finish(self, number: int, transient: bool) -> None:
        running = sorted(self.agent.running)
        if running:
            self.agent.finish(running[number % len(running)], transient)

    @rule(heard=st.booleans())
    def fail_and_run_again(self, heard: bool) -> None:
        """A command fails, and may run again; perhaps the acknowledgement of its failure is lost."""
        self.enqueue(runs=3)
        self.exchange()
        self.claim()
        self.exchange()
        for command_id in list(self.agent.running):
            self.agent.finish(command_id, transient=True)
        self.agent.commit()
        self.send(10)
        self.agent.deliver_up()
        if heard:
            self.exchange()
        self.end_delays()
        self.claim()

    # Crashes

    @rule()
    def kill_server(self) -> None:
        self.run(self.replica.kill())
        self.agent.disconnect()
        self.replica = CrashingReplica(self.url, POLICY, RETRY)

    @rule(half_open=st.booleans(), journal_kept=st.booleans())
    def kill_agent(self, half_open: bool, journal_kept: bool) -> None:
        """What it was running is lost; without its journal, so is what it was sent. Neither is run again."""
        self.cut(half_open)
        self.crashed |= {one for one in self.commands if self.agent.starts[one]}
        self.excused |= self.crashed
        self.forgotten |= not journal_kept
        self.agent.restart(journal_kept)

    @rule()
    def commit(self) -> None:
        """The agent's journal gets what has changed."""
        self.agent.commit()

    # Deadlines

    @rule(number=NUMBERS)
    def pass_deadline(self, number: int) -> None:
        """Of a command in the agent's hands. Its run limit passes at the agent, too."""
        command_id = self.command(number)
        fields = self.run(self.observer.hash(command_id))
        if fields["status"] != CommandStatus.ASSIGNED:
            return
        self.excused.add(command_id)
        self.agent.now += ACK_DEADLINE_SECONDS
        if fields.get("acknowledged_ms"):
            self.agent.now += RUN_LIMIT_SECONDS
            self.excused |= self.agent.running.keys()
            self.agent.stop_all(StopCause.TIME_LIMIT)
        self.run(self.observer.pass_deadline(command_id))
        self.run(self.replica.act_on_deadlines())

    @rule()
    def end_delays(self) -> None:
        for command_id in self.commands:
            fields = self.run(self.observer.hash(command_id))
            if fields["status"] == CommandStatus.QUEUED and self.run(self.observer.is_delayed(command_id, AGENT)):
                self.run(self.observer.end_delay(command_id))
        self.run(self.replica.act_on_deadlines())

    # What must hold after every step

    @invariant()
    def nothing_is_started_more_often_than_permitted(self) -> None:
        for command_id, starts in self.agent.starts.items():
            assert starts <= min(self.permitted[command_id], 1 + self.agent.failures[command_id])

    @invariant()
    def an_end_is_true_and_never_changes(self) -> None:
        for state in self.run(self.observer.reader.states(self.commands)):
            assert state is not None
            if not state.status.terminal:
                assert state.command_id not in self.ends
                continue
            seen = state.status, state.reason
            assert self.ends.setdefault(state.command_id, seen) == seen
            if state.status is CommandStatus.CANCELLED:
                assert state.command_id not in self.agent.running, "cancelled while it runs"
            if state.status is CommandStatus.COMPLETED:
                result = self.agent.results[state.command_id]
                assert result.status == command_pb2.COMMAND_STATUS_COMPLETED

    @invariant()
    def no_acknowledged_result_is_lost(self) -> None:
        for command_id, result in self.agent.stored.items():
            assert self.ends[command_id][0] is STATUS_FROM_WIRE[result.status]

    def teardown(self) -> None:
        """Once nothing fails any more, every command ends without a deadline, and its output is whole."""
        try:
            self.quiesce()
            self.an_end_is_true_and_never_changes()
            for command_id in self.commands:
                self.check_end(command_id)
        finally:
            self.run(self.replica.kill())
            self.run(self.connections.close())

    def quiesce(self) -> None:
        for _ in range(ENOUGH_ROUNDS):
            self.exchange()
            for command_id in list(self.agent.running):
                self.agent.finish(command_id)
            self.agent.heartbeat(1.0)
            self.exchange()
            self.end_delays()
            self.run(self.replica.reconcile())
            self.claim()
            self.exchange()

    def check_end(self, command_id: str) -> None:
        assert command_id in self.ends, f"{command_id} is stuck: {self.run(self.observer.hash(command_id))}"
        status, reason = self.ends[command_id]
        used_up = self.agent.failures[command_id] >= self.permitted[command_id]
        excused = command_id in self.excused or used_up
        assert status is CommandStatus.COMPLETED or excused, f"{status} ({reason}) for nothing"
        if status is CommandStatus.COMPLETED and command_id not in self.crashed:
            chunks = self.run(self.observer.output.read(command_id, 0, 1_000_000))
            printed = b"".join(chunk.data for chunk in chunks)
            assert printed == output_of(command_id, 0, self.agent.printed[command_id])


@pytest.mark.timeout(300)
def test_crashes_break_no_promise(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_writer, "ACK_DELAY_SECONDS", 0.0)
    loop = asyncio.new_event_loop()

    class Machine(CrashMachine):
        def __init__(self) -> None:
            super().__init__(loop, valkey_url)

    try:
        run_state_machine_as_test(Machine, settings=SETTINGS)
    finally:
        loop.close()
