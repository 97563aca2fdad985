"""One agent without gRPC, processes and a clock: the real session and record, until it crashes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from distributor.agent.actions import Action, StartCommand, StopCause, StopCommand
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.journal_entries import CommandEntry, Stage
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.agent.session_state import Phase, SessionState
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.gateway_world import MemoryStream, Run

CAPACITY = 3
STDOUT = command_pb2.OUTPUT_STREAM_STDOUT
STATUSES = {
    None: command_pb2.COMMAND_STATUS_COMPLETED,
    StopCause.DISOWNED: command_pb2.COMMAND_STATUS_FAILED,
    StopCause.CANCELLED: command_pb2.COMMAND_STATUS_CANCELLED,
    StopCause.TIME_LIMIT: command_pb2.COMMAND_STATUS_TIMEOUT,
}


class CrashingAgent:
    """Plays the handlers and the driver of the stream. `starts`, `failures` and `printed` outlive it: what it did."""

    def __init__(self, agent_id: str, run: Run) -> None:
        self.agent_id = agent_id
        self.now = 0.0
        self.starts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """Runs that ended with a failure after which the command may be run again."""
        self.printed: Counter[str] = Counter()
        """Bytes of output of each command."""
        self.results: dict[str, pb.Result] = {}
        """The result of each command whose handler has ended."""
        self.stored: dict[str, pb.Result] = {}
        """Final results that the server has acknowledged as stored."""
        self._run = run
        self._instances = self._journals = 0
        self._journal: dict[str, CommandEntry] = {}
        self.restart(journal_kept=False)

    def restart(self, journal_kept: bool) -> None:
        """Begin as a new process that remembers what its journal has, or nothing."""
        self._instances += 1
        self.record = CommandRecord(durable=True)
        self.running: dict[str, StopCause | None] = {}
        """Commands whose handlers run, and why they were asked to stop."""
        self.state: SessionState | None = None
        self.stream: MemoryStream | None = None
        self._heard = 0
        self._sent: deque[pb.ConnectRequest] = deque()
        if not journal_kept:
            self._journals += 1
            self._journal = {}
        for entry in self._journal.values():
            held = self.record.restore(entry)
            if held is not None and entry.stage is Stage.STARTED:
                self._lose(held)

    def _lose(self, held: RecordedCommand) -> None:
        """Nothing is known of a command that the process before this one had started."""
        result = pb.Result(command_id=held.command_id, status=command_pb2.COMMAND_STATUS_FAILED)
        result.reason.code = "outcome_unknown"
        self.results[held.command_id] = result
        self.record.finish(result)

    def commit(self) -> bool:
        """Write to the journal what has changed; return False if nothing has."""
        if not self.record.unwritten:
            return False
        for command_id in self.record.unwritten.take():
            entry = self.record.entry(command_id)
            if entry is None:
                self._journal.pop(command_id, None)
            else:
                self._journal[command_id] = entry
        self.record.unwritten.succeeded()
        if self.state:
            self._act(self.state.journal_written(self.now))
        return True

    @property
    def profile(self) -> AgentProfile:
        """What it says of itself."""
        instance, journal = f"instance{self._instances}", f"journal{self._journals}"
        return AgentProfile(self.agent_id, instance, CAPACITY, ("PRINT",), journal_id=journal)

    # The stream

    def hello(self) -> pb.Hello:
        """Begin a session."""
        self.state = SessionState(self.profile, self.record)
        return self.state.hello(self.now).hello

    def connected(self, stream: MemoryStream) -> None:
        """The Hello has been answered; the answer has not arrived."""
        self.stream, self._heard = stream, 0
        self._sent.clear()

    def disconnect(self) -> None:
        """Lose the stream with everything on its way."""
        self.state = self.stream = None

    def send(self) -> bool:
        """Put the next message on its way; return False if there is none."""
        message = self.state.take() if self.state else None
        if message is None or self.state is None:
            return False
        self._sent.append(message)
        self._act(self.state.sent(message, self.now))
        return True

    def deliver_up(self) -> bool:
        """Let the server read the oldest message on its way; return False if there is none."""
        if not self._sent or self.stream is None:
            return False
        if not self._run(self.stream.say(self._sent.popleft())):
            self.disconnect()
        return True

    def deliver_down(self) -> bool:
        """Read the oldest message of the server; return False if there is none."""
        if self.stream is None or self.state is None:
            return False
        if self._heard == len(self.stream.context.written):
            if self.stream.error is not None:
                self.disconnect()
            return False
        message = self.stream.context.written[self._heard]
        self._heard += 1
        for ack in message.result_acks:
            result = self.results.get(ack.command_id)
            if ack.verdict == pb.RESULT_VERDICT_STORED and result is not None and not result.transient:
                self.stored[ack.command_id] = result
        self._act(self.state.receive(message, self.now))
        return True

    def heartbeat(self, seconds: float) -> None:
        """Let time pass, and send a heartbeat."""
        self.now += seconds
        if self.state and self.state.phase is Phase.OPEN:
            self.state.heartbeat(self.now)

    # The handlers

    def print(self, command_id: str, size: int) -> None:
        """Have a running command print; its bytes follow from its id and their offsets."""
        held, state = self.record.get(command_id), self.state
        assert held is not None
        first = self.printed[command_id]
        data = memoryview(output_of(command_id, first, size))
        self.printed[command_id] += held.window.write(STDOUT, data, 32_768)
        if state:
            state.output_written(command_id)

    def finish(self, command_id: str, transient: bool = False) -> None:
        """End a handler: as it was asked to, if it was, else with success or a transient failure."""
        cause = self.running.pop(command_id)
        status = STATUSES[cause]
        if cause is None and transient:
            self.failures[command_id] += 1
            status = command_pb2.COMMAND_STATUS_FAILED
        held = self.record.get(command_id)
        assert held is not None
        held.window.close()
        result = pb.Result(
            command_id=command_id,
            status=status,
            output_bytes=held.output_bytes,
            transient=cause is None and transient,
        )
        if not held.disowned:
            self.results[command_id] = result
        self.record.finish(result)
        if self.state:
            self.state.finished(command_id, self.now)

    def stop_all(self, cause: StopCause) -> None:
        """End all handlers for one reason."""
        for command_id in list(self.running):
            self.running[command_id] = cause
            self.finish(command_id)

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case StartCommand(assignment):
                    self.starts[assignment.command.command_id] += 1
                    self.running[assignment.command.command_id] = None
                case StopCommand(command_id, cause) if command_id in self.running:
                    self.running[command_id] = self.running[command_id] or cause
                case _:
                    pass


def output_of(command_id: str, first: int, size: int) -> bytes:
    """The output of a command from one offset on."""
    salt = sum(command_id.encode())
    return bytes((salt + place) % 251 for place in range(first, first + size))
