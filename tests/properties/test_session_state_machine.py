"""The session state against any order of commands, ends, losses and reconnects."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from distributor.agent.actions import RefusedCommand, StartCommand, StopCommand
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.outbox import MAX_PARTS
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import assignment, welcome

CAPACITY = 30
START_WITHIN = 15.0
PROFILE = AgentProfile("agent123", "instance", CAPACITY, ("PRINT",), inline_types=frozenset({"PRINT"}))
COMMAND_IDS = st.integers(0, 60).map(str)


class SessionMachine(RuleBasedStateMachine):
    """Plays the server, the handlers, the clock and the network, and keeps its own small account."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.record = CommandRecord()
        self.starts: dict[str, int] = {}
        self.running: set[str] = set()
        self.unacknowledged: set[str] = set()
        self.attempts = 0
        self.connect()

    @rule()
    def connect(self) -> None:
        self.state = SessionState(PROFILE, self.record)
        hello = self.state.hello(self.now).hello
        assert {held.command_id for held in hello.running} == self.running
        assert {held.command_id for held in hello.unacknowledged} == self.unacknowledged
        self.state.receive(welcome(start_within=START_WITHIN), self.now)
        self.sent_at = [self.now, self.now]
        self.heartbeat_waits = True
        self.received_now: set[str] = set()
        self.results_now: list[str] = []

    @rule(ids=st.lists(COMMAND_IDS, max_size=25, unique=True), heartbeat=st.integers(0, 5))
    def give_commands(self, ids: list[str], heartbeat: int) -> None:
        self.attempts += 1
        given = [assignment(command_id, "PRINT", attempt=self.attempts) for command_id in ids]
        message = gateway.ConnectResponse(commands=gateway.Commands(assignments=given, after_heartbeat=heartbeat))
        # What has ended is answered with its result again, under the new lease.
        self.unacknowledged |= set(ids) & self.starts.keys() - self.running
        for action in self.state.receive(message, self.now):
            if isinstance(action, RefusedCommand):
                if action.code == "stale":
                    self.note_heartbeat()
                continue
            assert isinstance(action, StartCommand)
            command_id = action.assignment.command.command_id
            self.starts[command_id] = self.starts.get(command_id, 0) + 1
            self.running.add(command_id)
            assert heartbeat < len(self.sent_at)
            assert self.now - self.sent_at[heartbeat] < START_WITHIN

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        command_id = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(command_id)
        self.unacknowledged.add(command_id)
        self.record.finish(gateway.Result(command_id=command_id))
        self.state.finished(command_id, self.now)

    @rule()
    def send(self) -> None:
        message = self.state.take()
        if message is None:
            return
        kinds = (message.received, message.started, message.refused, message.results)
        assert max(len(kind) for kind in kinds) <= MAX_PARTS
        if message.HasField("heartbeat"):
            beat = message.heartbeat
            assert beat.sequence == len(self.sent_at) - 1
            assert 0 <= beat.running == CAPACITY - beat.credit
            self.heartbeat_waits = False
        self.received_now |= {part.command_id for part in message.received}
        assert {part.command_id for part in message.started} <= self.received_now
        self.results_now += [result.command_id for result in message.results]

    @precondition(lambda self: self.results_now)
    @rule()
    def acknowledge(self) -> None:
        command_id = self.results_now.pop()
        self.unacknowledged.discard(command_id)
        ack = gateway.ResultAck(command_id=command_id, verdict=gateway.RESULT_VERDICT_STORED)
        self.state.receive(gateway.ConnectResponse(result_acks=[ack]), self.now)

    @rule(command_id=COMMAND_IDS)
    def cancel(self, command_id: str) -> None:
        cancel = gateway.ConnectResponse(cancels=[gateway.Cancel(command_id=command_id)])
        actions = self.state.receive(cancel, self.now)
        assert [isinstance(action, StopCommand) for action in actions] == [True] * (command_id in self.running)

    @rule(seconds=st.floats(0.1, 8.0))
    def heartbeat(self, seconds: float) -> None:
        self.now += seconds
        self.state.heartbeat(self.now)
        self.note_heartbeat()

    def note_heartbeat(self) -> None:
        if self.heartbeat_waits:
            self.sent_at[-1] = self.now
        else:
            self.sent_at.append(self.now)
        self.heartbeat_waits = True

    @invariant()
    def never_started_twice(self) -> None:
        assert all(count == 1 for count in self.starts.values())

    @invariant()
    def accounts_agree(self) -> None:
        assert (self.record.running, self.record.unacknowledged) == (len(self.running), len(self.unacknowledged))
        assert self.state.credit == CAPACITY - len(self.running) >= 0

    def teardown(self) -> None:
        """However it went, one more stream delivers every result that is left, once."""
        self.connect()
        while message := self.state.take():
            self.results_now += [result.command_id for result in message.results]
        assert sorted(self.results_now) == sorted(self.unacknowledged)


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
