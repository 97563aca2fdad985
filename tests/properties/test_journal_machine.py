"""The session state with its journal, against crashes between any two steps.

The journal is a table in memory that is changed by whole commits, and each step of the driver is a rule of its own: a
crash loses what was not committed, and the record of the next process is built from the table. Time passes between
steps, streams break or are left for another server, and what was on its way is then lost.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from distributor.agent.actions import Action, StartCommand
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.journal_entries import CommandEntry, Stage
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import assignment, welcome

PROFILE = AgentProfile("agent123", "instance", 30, ("LOOP", "INLINE"), inline_types=frozenset({"INLINE"}))
COMMAND_IDS = st.integers(0, 3).map(str)
START_WITHIN = 15.0
FAILED = command_pb2.COMMAND_STATUS_FAILED


class JournalMachine(RuleBasedStateMachine):
    """Plays the server, the handlers, the disk and the crashes, and counts the starts from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[str, CommandEntry] = {}
        self.starts: Counter[str] = Counter()
        self.attempts = 0
        self.running: set[str] = set()
        self.outcomes: dict[str, str] = {}
        """The outcome of each command, as its first committed result says."""
        self.delivered: dict[str, set[str]] = {}
        """The outcomes that the server was sent for each command."""
        self.acknowledged: set[str] = set()
        self.received: set[str] = set()
        """Commands of which the server has a Received, and nothing after it that ends the attempt."""
        self.denied: set[str] = set()
        """Commands of which it was said that they had not started, since they were given last."""
        self.leases: dict[str, str] = {}
        """The lease under which each command was given last."""
        self.read: dict[str, str] = {}
        """The lease of the latest result of each command that the server has read."""
        self.now = 0.0
        self.given_after: dict[str, float] = {}
        """When the heartbeat was sent that makes each command fresh."""
        self.boot()

    def boot(self) -> None:
        """A process of the agent begins with what was committed."""
        self.record = CommandRecord(durable=True)
        self.batch: list[str] | None = None
        self.entries: list[CommandEntry | None] = []
        self.running = set()
        for entry in list(self.table.values()):
            held = self.record.restore(entry)
            if held and entry.stage is Stage.STARTED:
                assert entry.command_id not in self.denied, "what has not started has no unknown outcome"
                self.record.finish(gateway.Result(command_id=entry.command_id, status=FAILED, exit_code=-1))
        self.attach()

    @rule()
    def attach(self) -> None:
        """A stream begins; the last one may not have ended in order."""
        self.state = SessionState(PROFILE, self.record)
        self.beats = {0: self.now}
        self.answered = 0
        hello = self.state.hello(self.now).hello
        listed = {held.command_id for held in (*hello.running, *hello.unacknowledged)}
        committed = {
            entry.command_id for entry in self.table.values() if entry.stage in (Stage.STARTED, Stage.FINISHED)
        }
        assert committed - self.acknowledged <= listed, "no started command and no result is lost"
        assert self.received <= listed, "what the server takes for held, the agent comes back with"
        self.given_after |= dict.fromkeys(listed, self.now)
        self.sent: list[gateway.ConnectRequest] = []
        self.act(self.state.receive(welcome(), self.now))

    @rule(seconds=st.sampled_from([0.1, 5.0, 14.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def beat(self) -> None:
        self.state.heartbeat(self.now)

    @precondition(lambda self: len(self.beats) > 1)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """The server answers a heartbeat that it has read, and thus everything before it."""
        sequence = data.draw(st.sampled_from(sorted(self.beats)[1:]))
        self.answered = max(self.answered, sequence)
        reply = gateway.HeartbeatReply(sequence=sequence)
        self.act(self.state.receive(gateway.ConnectResponse(heartbeat_reply=reply), self.now))

    @rule()
    def move(self) -> None:
        """The agent leaves the stream for another server, with its Goodbye behind what it has said."""
        self.state.move()
        while message := self.state.take():
            self.sent.append(message)
        late = [assignment("0", "LOOP", attempt=self.attempts)]
        crossing = gateway.ConnectResponse(commands=gateway.Commands(assignments=late))
        assert self.state.receive(crossing, self.now) == [], "nothing starts after the Goodbye"
        while self.sent:
            self.written()
        self.attach()

    @rule()
    def crash(self) -> None:
        self.boot()

    @rule(ids=st.lists(COMMAND_IDS, min_size=1, max_size=3, unique=True), kind=st.sampled_from(["LOOP", "INLINE"]))
    def give(self, ids: list[str], kind: str) -> None:
        """The server assigns commands, also such as it should not assign again."""
        self.attempts += 1
        given = [assignment(command_id, kind, attempt=self.attempts) for command_id in ids]
        for command_id, one in zip(ids, given, strict=True):
            self.leases[command_id] = one.lease_id
            self.received.discard(command_id)
            self.denied.discard(command_id)
            sent_at = self.beats[self.answered]
            self.given_after[command_id] = max(sent_at, self.given_after.get(command_id, 0.0))
        message = gateway.Commands(assignments=given, after_heartbeat=self.answered)
        self.act(self.state.receive(gateway.ConnectResponse(commands=message), self.now))

    @precondition(lambda self: self.batch is None and self.record.unwritten)
    @rule()
    def begin_commit(self) -> None:
        self.batch = self.record.unwritten.take()
        self.entries = [self.record.entry(command_id) for command_id in self.batch]

    @precondition(lambda self: self.batch is not None)
    @rule(succeeds=st.booleans(), told=st.booleans())
    def end_commit(self, succeeds: bool, told: bool) -> None:
        """The commit fails, or succeeds; the process may crash before it learns of that."""
        assert self.batch is not None
        if succeeds:
            for command_id, entry in zip(self.batch, self.entries, strict=True):
                self.write(command_id, entry)
        if not told:
            self.crash()
            return
        self.batch = None
        if succeeds:
            self.record.unwritten.succeeded()
            self.record.journal_problem, self.record.journal_failing = None, False
            self.act(self.state.journal_written(self.now))
        else:
            self.record.unwritten.failed()

    def write(self, command_id: str, entry: CommandEntry | None) -> None:
        if entry is None:
            self.table.pop(command_id, None)
            return
        self.table[command_id] = entry
        if entry.stage is Stage.FINISHED and entry.result:
            outcome = str(gateway.Result.FromString(entry.result).exit_code)
            assert self.outcomes.setdefault(command_id, outcome) == outcome, "a result never changes"

    @rule()
    def take(self) -> None:
        """The writer puts a message on the wire."""
        message = self.state.take()
        if message is None:
            return
        for part in message.received:
            cancelled = self.record.get(part.command_id) is None
            assert part.command_id in self.table or cancelled, "Received leaves once the journal has the command"
        for result in message.results:
            self.delivered.setdefault(result.command_id, set()).add(str(result.exit_code))
            assert self.table[result.command_id].stage in (Stage.FINISHED, Stage.ENDED)
        for command_id in self.not_started(message):
            if command_id not in self.starts:
                self.denied.add(command_id)
        self.sent.append(message)

    @precondition(lambda self: self.sent)
    @rule()
    def written(self) -> None:
        """The write of that message has ended, unless a crash came first, and the server has read it."""
        message = self.sent.pop(0)
        self.received |= {part.command_id for part in message.received if self.is_latest(part)}
        self.received -= {*self.not_started(message), *(part.command_id for part in message.results)}
        self.read |= {result.command_id: result.lease_id for result in message.results}
        if message.HasField("heartbeat"):
            self.beats[message.heartbeat.sequence] = self.now
        self.act(self.state.sent(message, self.now))

    @rule()
    def go_on(self) -> None:
        """The driver works undisturbed until nothing is left to do."""
        while True:
            if self.batch is not None:
                self.end_commit(succeeds=True, told=True)
            elif self.record.unwritten:
                self.begin_commit()
            elif self.sent:
                self.written()
            else:
                self.take()
                if not self.sent:
                    return

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        command_id = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(command_id)
        self.record.finish(gateway.Result(command_id=command_id, exit_code=self.starts[command_id]))
        self.state.finished(command_id, self.now)

    @precondition(lambda self: self.read)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        command_id = data.draw(st.sampled_from(sorted(self.read)))
        self.acknowledged.add(command_id)
        ack = gateway.ResultAck(
            command_id=command_id, lease_id=self.read[command_id], verdict=gateway.RESULT_VERDICT_STORED
        )
        self.act(self.state.receive(gateway.ConnectResponse(result_acks=[ack]), self.now))

    @rule(command_id=COMMAND_IDS)
    def cancel(self, command_id: str) -> None:
        cancels = [gateway.Cancel(command_id=command_id, lease_id=self.leases.get(command_id, ""))]
        self.act(self.state.receive(gateway.ConnectResponse(cancels=cancels), self.now))

    def is_latest(self, part: gateway.Received | gateway.Refused | gateway.CancelReport) -> bool:
        return self.leases.get(part.command_id) == part.lease_id

    def not_started(self, message: gateway.ConnectRequest) -> set[str]:
        """Commands of which the message says that they have not started."""
        unknown = [one for one in message.cancel_reports if one.finding == gateway.CANCEL_FINDING_UNKNOWN]
        told = {one.command_id for one in unknown if self.is_latest(one)}
        return told | {one.command_id for one in message.refused if self.is_latest(one)}

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, StartCommand):
                command_id = action.assignment.command.command_id
                assert self.table[command_id].stage is Stage.STARTED, "a handler starts once the journal has that"
                assert self.now < self.given_after[command_id] + START_WITHIN, "only what is fresh starts"
                self.starts[command_id] += 1
                self.running.add(command_id)

    @invariant()
    def never_started_twice(self) -> None:
        assert all(count == 1 for count in self.starts.values())

    @invariant()
    def one_outcome(self) -> None:
        assert all(len(outcomes) == 1 for outcomes in self.delivered.values())

    def teardown(self) -> None:
        """In the end, after one more crash, every result that was committed is delivered."""
        self.crash()
        while self.record.unwritten:
            for command_id in self.record.unwritten.take():
                self.write(command_id, self.record.entry(command_id))
            self.record.unwritten.succeeded()
            self.act(self.state.journal_written(self.now))
        while message := self.state.take():
            for result in message.results:
                self.delivered.setdefault(result.command_id, set()).add(str(result.exit_code))
        assert self.outcomes.keys() - self.delivered.keys() <= self.acknowledged
        self.one_outcome()


def test_nothing_starts_twice_and_no_result_is_lost_over_crashes() -> None:
    run_state_machine_as_test(
        JournalMachine, settings=settings(max_examples=100, stateful_step_count=60, deadline=None)
    )
