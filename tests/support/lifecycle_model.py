"""A small in-memory model of the store's promises about commands, without keys, indexes or clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from distributor.model.delivery import CompletionOutcome, OutputRefusal
from distributor.model.lifecycle import CommandStatus

NOTHING_RUNS = -1
"""Before every epoch: the agent has said that it runs none of the attempts that were given up."""
QUEUED, ASSIGNED = CommandStatus.QUEUED, CommandStatus.ASSIGNED


@dataclass
class ModelCommand:
    """One command as its callers see it. `delayed`: in the queue, but not to be given out yet."""

    command_id: str
    agent_id: str
    priority: int
    max_runs: int
    arrival: int
    status: CommandStatus = QUEUED
    attempt: int = 0
    runs: int = 0
    counted_lease: str = ""
    uncounted: int = 0
    lease_id: str = ""
    delayed: bool = False
    acknowledged: bool = False
    started: bool = False
    cancel_requested: bool = False
    output_bytes: int = 0
    output_base: int = 0
    latest: int = 0
    """The number of its latest attempt; `attempt` is the one that it is shown as."""
    attempts: dict[str, int] = field(default_factory=dict)
    """The number of the attempt under each lease."""
    given_up: dict[str, int] = field(default_factory=dict)
    """Leases of attempts that were given up, and where the output of each began."""
    given_up_epoch: int = 0
    """The epoch of the session under which they were."""
    doubt: bool = False
    """It is to end, but its agent may run it: assigned until the agent is heard."""
    doubt_over: bool = False
    """What its agent may have started can no longer run: there is nothing to wait for, but for an unheard agent."""
    end: tuple[str, CommandStatus] | None = None
    """The lease and status of the report that ended it; the same again is no late report."""

    @property
    def ready(self) -> bool:
        """Whether a claim may give it out."""
        return self.status is QUEUED and not self.delayed

    def held_by(self, agent_id: str, lease_id: str) -> bool:
        """Whether this agent has it now, under this lease."""
        return self.status is ASSIGNED and (self.agent_id, self.lease_id) == (agent_id, lease_id)

    def earlier(self, lease_id: str) -> bool:
        """Whether this lease is that of an attempt that was given up, while none has been started since."""
        return not self.status.terminal and not self.started and lease_id in self.given_up

    def is_counted(self, lease_id: str) -> bool:
        """Whether the run under this lease is counted: under that of its report, and under that of the time."""
        return bool(lease_id) and lease_id in self.counted_lease.split()

    def goes_on_under(self, lease_id: str) -> None:
        """The agent has it under this lease."""
        if lease_id != self.lease_id:
            self.lease_id, self.output_base = lease_id, self.given_up[lease_id]
            self.attempt = self.attempts[lease_id]
        self.doubt = False

    def in_doubt(self) -> None:
        """It waits for its agent."""
        self.status, self.doubt, self.delayed = ASSIGNED, True, False

    def back_to_queue(self, delayed: bool) -> None:
        """Another attempt is to be made."""
        self.doubt = False
        self.attempt = self.latest
        self.status, self.delayed = QUEUED, delayed
        self.acknowledged = self.started = False


@dataclass
class LifecycleModel:
    """All commands, and the latest epoch of each agent (None while it is away)."""

    queue_limit: int
    delivery_attempts: int
    commands: dict[str, ModelCommand] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    connected: dict[str, int | None] = field(default_factory=dict)
    losses: dict[str, set[int]] = field(default_factory=dict)
    """The epochs in which each agent came without its record."""
    unheard: set[str] = field(default_factory=set)
    """Agents that have time to come back after an outage."""

    def of(self, agent_id: str) -> list[ModelCommand]:
        """An agent's commands."""
        return [command for command in self.commands.values() if command.agent_id == agent_id]

    def enqueue(self, command: ModelCommand) -> bool:
        """Whether there was room for it."""
        if sum(other.status is QUEUED for other in self.of(command.agent_id)) >= self.queue_limit:
            return False
        self.commands[command.command_id] = command
        return True

    def claim(self, agent_id: str, epoch: int, max_commands: int, lease_id: str) -> list[str] | None:
        """What is given out, in order; None where the session is not the latest."""
        if self.connected.get(agent_id) != epoch:
            return None
        ready = [command for command in self.of(agent_id) if command.ready]
        ready.sort(key=lambda command: (-command.priority, command.arrival))
        claimed: list[str] = []
        for command in ready:
            if len(claimed) == max_commands:
                break
            if self.is_lost(command):
                command.status = CommandStatus.FAILED
                continue
            command.status, command.lease_id, command.latest = ASSIGNED, lease_id, command.latest + 1
            command.attempt = command.attempts[lease_id] = command.latest
            command.output_base = command.output_bytes
            claimed.append(command.command_id)
        return claimed

    def progress(self, command: ModelCommand, agent_id: str, lease_id: str, started: bool) -> bool:
        """The agent has it, or has started it."""
        heard = command.doubt and command.agent_id == agent_id and command.earlier(lease_id)
        if not command.held_by(agent_id, lease_id) and not heard:
            return False
        command.goes_on_under(lease_id)
        command.acknowledged = True
        command.started |= started
        return True

    def finish(
        self, command: ModelCommand, held_by: tuple[str, str], status: CommandStatus, again: bool, ran: bool
    ) -> CompletionOutcome:
        """The agent says how it ended. `again`: another run is worth it, later. `ran`: its handler was called."""
        agent_id, lease_id = held_by
        if command.agent_id != agent_id:
            return CompletionOutcome.FOREIGN
        if command.status.terminal:
            return CompletionOutcome.STORED if command.end == (lease_id, status) else CompletionOutcome.LATE
        if command.is_counted(lease_id):
            # The same report once more, as its acknowledgement was lost, but not after the next run has started.
            return CompletionOutcome.RUN_AGAIN if again and not command.started else CompletionOutcome.STALE
        if not command.held_by(agent_id, lease_id):
            if not (ran and command.earlier(lease_id)):
                return CompletionOutcome.STALE
            command.output_base, command.attempt = command.given_up[lease_id], command.attempts[lease_id]
        if again and command.runs + 1 < command.max_runs and not command.cancel_requested:
            command.runs += 1
            command.counted_lease = " ".join(dict.fromkeys((lease_id, command.lease_id)))
            command.given_up_epoch = NOTHING_RUNS
            command.back_to_queue(delayed=True)
            return CompletionOutcome.RUN_AGAIN
        command.status, command.doubt = status, False
        command.end, command.lease_id = (lease_id, status), lease_id
        return CompletionOutcome.STORED

    def not_found(self, command: ModelCommand, agent_id: str, lease_id: str) -> CompletionOutcome:
        """A cancel did not find it under this lease."""
        if command.agent_id != agent_id:
            return CompletionOutcome.FOREIGN
        if command.status.terminal:
            return CompletionOutcome.LATE
        known = command.given_up.pop(lease_id, None) is not None
        current = command.held_by(agent_id, lease_id)
        if not command.cancel_requested or not (current or (command.doubt and known)):
            return CompletionOutcome.STALE
        if not command.acknowledged and self.may_run(command):
            if not command.doubt:
                self._doubt(command)
            return CompletionOutcome.OPEN
        command.status, command.doubt = CommandStatus.CANCELLED, False
        command.end = (command.lease_id, CommandStatus.CANCELLED)
        return CompletionOutcome.STORED

    def may_run(self, command: ModelCommand) -> bool:
        """Whether an attempt that was given up may have started: its agent has not attached since."""
        return bool(command.given_up) and self.epochs[command.agent_id] <= command.given_up_epoch

    def is_lost(self, command: ModelCommand) -> bool:
        """Whether an attempt that was given up may have started, and its agent has lost the record of that."""
        given_up = bool(command.given_up) and command.given_up_epoch != NOTHING_RUNS
        return (
            given_up
            and not self.may_run(command)
            and command.given_up_epoch + 1 in self.losses.get(command.agent_id, ())
        )

    def _doubt(self, command: ModelCommand) -> None:
        """It waits for its agent, if that may still run it or tell of it."""
        if command.doubt_over and command.agent_id not in self.unheard:
            command.status, command.doubt = CommandStatus.TIMEOUT, False
        else:
            command.in_doubt()

    def outage(self) -> None:
        """No server was there for long: what may have been started before can no longer run."""
        self.unheard = set(self.epochs)
        for command in self.commands.values():
            command.doubt_over |= bool(command.given_up) and not command.status.terminal

    def patience_ends(self) -> None:
        """Agents have had the time to come back after an outage."""
        self.unheard.clear()

    def may_be_doubted(self, command: ModelCommand) -> bool:
        """Whether a cancel, or a deadline that passes, may leave it in doubt."""
        if command.status is QUEUED:
            return self.may_run(command)
        return not command.acknowledged and (
            command.cancel_requested or self.may_run(command) or self._exhausted(command)
        )

    def _exhausted(self, command: ModelCommand) -> bool:
        return command.latest - command.runs - command.uncounted >= self.delivery_attempts

    def release(
        self, command: ModelCommand, held_by: tuple[str, str], delayed: bool, counts: bool, word: str = ""
    ) -> CommandStatus | None:
        """The agent did not take it. `word` says whether it may have it, as in Release."""
        if command.started or (command.acknowledged and word != "refused"):
            return None
        agent_id, lease_id = held_by
        earlier = command.agent_id == agent_id and command.doubt and lease_id in command.given_up
        if not command.held_by(*held_by) and not earlier:
            return None
        if command.doubt:
            if not word:
                return None
            command.given_up.pop(lease_id, None)
        command.uncounted += not counts
        self._release_or_give_up(command, delayed, word)
        return command.status

    def cancel(self, command: ModelCommand) -> None:
        """A caller does not want it any more."""
        if command.status.terminal:
            return
        command.cancel_requested = True
        if command.status is QUEUED:
            if self.may_run(command):
                self._doubt(command)
            else:
                command.status = CommandStatus.FAILED if self.is_lost(command) else CommandStatus.CANCELLED

    def pass_deadline(self, command: ModelCommand) -> None:
        """It waited or ran too long, or was not acknowledged in time."""
        if command.status is QUEUED and self.may_run(command):
            self._doubt(command)
        elif command.status is QUEUED and self.is_lost(command):
            command.status = CommandStatus.FAILED
        elif command.status is ASSIGNED and command.agent_id in self.unheard:
            command.doubt_over |= command.doubt
        elif command.status is QUEUED or command.acknowledged or command.doubt:
            command.status, command.doubt = CommandStatus.TIMEOUT, False
        else:
            self._release_or_give_up(command, delayed=True)

    def attach(self, agent_id: str, held: Sequence[tuple[str, str]], lost: bool = False) -> tuple[set[str], set[str]]:
        """A session opens; the ids of the held commands that go on, and of those whose run is counted already.

        `lost`: the agent comes without the record that it had.
        """
        adopted: set[str] = set()
        counted: set[str] = set()
        for command_id, lease_id in held:
            command = self.commands[command_id]
            if command.agent_id != agent_id or command.status.terminal or command.attempt == 0:
                continue
            if command.is_counted(lease_id):
                counted.add(command_id)
            elif command_id not in adopted and (lease_id == command.lease_id or command.earlier(lease_id)):
                command.goes_on_under(lease_id)
                command.status, command.delayed, command.acknowledged = ASSIGNED, False, True
                adopted.add(command_id)
        for command in self.of(agent_id):
            if command.command_id in adopted:
                continue
            if command.status is ASSIGNED and (command.acknowledged or lost):
                command.status, command.doubt = CommandStatus.FAILED, False
            elif command.status is ASSIGNED:
                self._release_or_give_up(command, delayed=False, word="absent")
        self.epochs[agent_id] = self.epochs.get(agent_id, 0) + 1
        self.connected[agent_id] = self.epochs[agent_id]
        self.unheard.discard(agent_id)
        if lost:
            self.losses.setdefault(agent_id, set()).add(self.epochs[agent_id])
        return adopted, counted

    def detach(self, agent_id: str, epoch: int) -> bool:
        """A session ends; False where it was not the latest."""
        if self.connected.get(agent_id) != epoch:
            return False
        self.connected[agent_id] = None
        return True

    def append_output(
        self, command: ModelCommand, agent_id: str, lease_id: str, offset: int, size: int
    ) -> int | OutputRefusal:
        """Bytes of its output; the offset up to which its agent may forget them."""
        if command.agent_id != agent_id:
            return OutputRefusal.UNKNOWN
        if command.status.terminal:
            return OutputRefusal.ENDED
        held = command.held_by(agent_id, lease_id)
        if not held and not self._output_counts(command, lease_id):
            return OutputRefusal.STALE
        base = command.output_base if held else command.given_up[lease_id]
        if base + offset + size > 2**53:
            return offset + size
        if base + offset + size > command.output_bytes:
            command.output_bytes = base + offset + size
            if not held:
                command.output_base = command.output_bytes
        return command.output_bytes - base

    def _output_counts(self, command: ModelCommand, lease_id: str) -> bool:
        """Whether output of an attempt that was given up is kept: its run is not over, and no other has begun."""
        begun = command.status is ASSIGNED and command.output_bytes > command.output_base
        return command.earlier(lease_id) and not command.is_counted(lease_id) and not begun

    def _release_or_give_up(self, command: ModelCommand, delayed: bool, word: str = "") -> None:
        if word == "refused":
            command.given_up_epoch = NOTHING_RUNS
        elif word != "unsent":
            if not self.may_run(command):
                command.given_up.clear()
            command.given_up.pop(command.lease_id, None)
            command.given_up[command.lease_id] = command.output_base
            command.given_up_epoch, command.doubt_over = self.epochs[command.agent_id], False
        exhausted = self._exhausted(command)
        if (command.cancel_requested or exhausted) and word != "absent" and self.may_run(command):
            self._doubt(command)
        elif command.cancel_requested:
            command.status, command.doubt = CommandStatus.CANCELLED, False
        elif exhausted:
            command.status, command.doubt = CommandStatus.FAILED, False
        else:
            command.back_to_queue(delayed)
