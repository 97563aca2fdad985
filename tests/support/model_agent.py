"""A small agent that keeps to every rule of the protocol, without a network. Tests break it, one line at a time.

It shares no code with the agent library. Time is that of the event loop, so that it also runs in virtual time.
"""

from __future__ import annotations

import asyncio
import gzip
import math
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Value

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.wire.json_values import plain_struct
from distributor.wire.status_details import details_of, retry_after_of
from tests.support.memory_gateway import MemoryGateway, MemoryStream, StreamEnded

CAPACITY = 3
TICK_SECONDS = 0.1
SMALL_BYTES = 1_024
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
FAILED = command_pb2.COMMAND_STATUS_FAILED
TIMEOUT = command_pb2.COMMAND_STATUS_TIMEOUT
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED
LIMITS = ("time_limit", "idle_limit", "orphaned")


def now() -> float:
    return asyncio.get_running_loop().time()


def seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def failed(code: str, transient: bool = False) -> dict[str, Any]:
    return {"status": FAILED, "reason": command_pb2.Reason(code=code), "transient": transient}


def mark(file: Path, command_id: str) -> None:
    with file.open("a") as starts:
        starts.write(f"{command_id}\n")


class Failure(Exception):
    """A handler's failure. `args` are its code and whether it is transient."""


class Stopped(Exception):
    """Raised in a handler that must stop."""


class Leaving(Exception):
    """Raised to end the agent's process; says with which exit code."""


@dataclass
class Journal:
    """What survives the process."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    held: dict[str, tuple[str, pb.Result | None]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    halt: str = ""


@dataclass(eq=False)
class Held:
    """A command from its Received until its result is acknowledged."""

    command_id: str
    lease_id: str
    control: bool = False
    result: pb.Result | None = None
    cause: str = ""
    deadline: float = math.inf
    idle_limit: float = math.inf
    last_sign: float = 0.0
    kept: bytes = b""
    safe: int = 0
    sent: int = 0
    suspended: bool = False
    blocked: bool = False
    cancel_lease: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def names(self) -> dict[str, Any]:
        return {"command_id": self.command_id, "lease_id": self.lease_id}

    @property
    def end(self) -> int:
        return self.safe + len(self.kept)

    def stop(self, cause: str) -> None:
        self.cause = self.cause or cause
        self.changed.set()

    def pieces(self, chunk: int, window: int) -> Iterator[pb.Output]:
        while not self.suspended and self.sent < min(self.end, self.safe + window):
            first = self.sent - self.safe
            data = self.kept[first : min(first + chunk, window)]
            self.sent += len(data)
            offset = self.sent - len(data)
            yield pb.Output(**self.names, stream=command_pb2.OUTPUT_STREAM_STDOUT, offset=offset, data=data)

    def acknowledge(self, offset: int) -> None:
        safe = min(max(self.safe, offset), self.sent)
        self.kept = self.kept[safe - self.safe :]
        self.safe = safe
        self.changed.set()

    def rewind(self, offset: int) -> None:
        self.acknowledge(offset)
        self.sent = self.safe
        self.suspended = False

    def renew(self, lease_id: str) -> None:
        self.lease_id = lease_id
        self.safe = 0
        self.sent = 0
        self.suspended = False


class ModelAgent:
    """The process: what it holds, and one stream after another."""

    def __init__(self, gateway: MemoryGateway, journal: Journal, *, orphan_after: float = 0.0) -> None:
        self.gateway = gateway
        self.journal = journal
        self.orphan_after = orphan_after
        self.instance_id = uuid.uuid4().hex
        self.held: dict[str, Held] = {}
        self.disowned: set[Held] = set()
        self.stream: Stream | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.leaving = False
        self.halt = journal.halt
        self.failures = 0
        self.one_by_one = False
        self.proven_at = math.inf
        self.max_result, self.max_chunk, self.max_output = 262_144, 65_536, 262_144
        for command_id, (lease_id, result) in journal.held.items():
            held = Held(command_id, lease_id)
            held.result = result or pb.Result(**held.names, **failed("outcome_unknown"))
            self.held[command_id] = held

    async def run(self) -> int:
        self.spawn(self.tick())
        try:
            while True:
                ended = await self.served()
                await asyncio.sleep(self.pause(ended))
        except Leaving as leaving:
            return int(leaving.args[0])

    async def served(self) -> StreamEnded:
        stream = self.gateway.connect()
        if stream is None:
            return StreamEnded(grpc.StatusCode.UNAVAILABLE)
        self.stream = Stream(self, stream)
        try:
            return await self.stream.run()
        finally:
            self.stream = None

    def pause(self, ended: StreamEnded) -> float:
        if ended.code == grpc.StatusCode.OK:
            return 0.0
        self.failures += 1
        backoff = random.random() * min(2.0 ** (self.failures - 1), 60.0)
        retry_after = retry_after_of(details_of(ended.trailing))
        return backoff if retry_after is None else min(backoff, retry_after)

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for held in [*self.held.values(), *self.disowned]:
                if now() >= held.deadline:
                    held.stop("time_limit")
                if now() - held.last_sign >= held.idle_limit and not held.blocked:
                    held.stop("idle_limit")
                if self.orphan_after and now() - self.proven_at >= self.orphan_after:
                    held.stop("orphaned")
            if self.stream:
                self.stream.tick()

    def flush(self) -> None:
        if self.stream:
            self.stream.flush()

    def leave(self) -> None:
        self.leaving = True
        self.beat()

    def beat(self) -> None:
        if self.stream:
            self.stream.beat_due = True
            self.stream.flush()

    @property
    def running(self) -> list[Held]:
        return [*self.disowned, *(one for one in self.held.values() if not one.control and one.result is None)]

    @property
    def busy(self) -> int:
        return len(self.running)

    # Commands

    async def execute(self, held: Held, command: command_pb2.Command) -> None:
        held.last_sign = now()
        held.deadline = now() + seconds(command.time_limit) if command.HasField("time_limit") else math.inf
        held.idle_limit = seconds(command.idle_limit) if command.HasField("idle_limit") else math.inf
        outcome = await self.outcome(held, command)
        held.deadline = held.idle_limit = math.inf
        if held in self.disowned:
            if self.stream and held.cancel_lease is not None:
                self.stream.report(held.command_id, held.cancel_lease, pb.CANCEL_FINDING_UNKNOWN)
            self.disowned.discard(held)
            self.beat()
            return
        held.result = pb.Result(**held.names, **outcome, output_bytes=held.end)
        self.journal.held[held.command_id] = held.lease_id, held.result
        if self.leaving:
            self.beat()
        self.flush()

    async def outcome(self, held: Held, command: command_pb2.Command) -> dict[str, Any]:
        try:
            data = {} if held.control else await self.conformance(held, plain_struct(command.params))
        except Stopped:
            status = TIMEOUT if held.cause in LIMITS else CANCELLED
            return {"status": status, "reason": command_pb2.Reason(code=held.cause)}
        except Failure as failure:
            return failed(*failure.args)
        value = command.params.fields["echo"] if data == "echo" else Value()
        return (
            failed("result_too_large") if value.ByteSize() > self.max_result else {"status": COMPLETED, "data": value}
        )

    async def conformance(self, held: Held, params: dict[str, Any]) -> object:
        if "mark" in params:
            mark(Path(params["mark"]), held.command_id)
        length = int(params.get("output", 0))
        await self.write(held, (ALPHABET * (length // len(ALPHABET) + 1))[:length])
        end = now() + float(params.get("seconds", 0))
        while now() < end:
            if held.cause and not params.get("stubborn"):
                raise Stopped
            await asyncio.sleep(TICK_SECONDS)
        if "fail" in params:
            raise Failure("conformance_failure", params["fail"] == "transient")
        return "echo"

    async def write(self, held: Held, data: bytes) -> None:
        while data:
            if held.cause:
                raise Stopped
            held.changed.clear()
            few = data[: max(0, self.max_output - len(held.kept))]
            held.kept += few
            data = data[len(few) :]
            held.blocked = not few
            self.flush()
            if held.blocked:
                await held.changed.wait()
            held.last_sign = now()
        held.blocked = False

    def forget(self, held: Held, again: bool) -> None:
        self.held.pop(held.command_id, None)
        self.journal.held.pop(held.command_id, None)
        if not again:
            self.journal.done.add(held.command_id)


class Stream:
    """One stream, from its Hello to its end."""

    def __init__(self, agent: ModelAgent, stream: MemoryStream) -> None:
        self.agent = agent
        self.stream = stream
        self.open = False
        self.moving = False
        self.goodbye = False
        self.beat_due = False
        self.accepts_gzip = False
        self.halt_said = -1
        self.sequence = 0
        self.beat_at = now()
        self.heard_at = now()
        self.sent_at = {0: now()}
        self.answers = pb.ConnectRequest()
        self.unanswered: set[Held] = set()
        self.interval, self.start_within = 10.0, 15.0

    async def run(self) -> StreamEnded:
        self.stream.send(pb.ConnectRequest(hello=self.hello()))
        try:
            while True:
                self.hear(await self.stream.read())
        except StreamEnded as ended:
            self.ended(ended)
            return ended
        except (OSError, EOFError, ValueError):
            self.stream.cancel()
            return StreamEnded(grpc.StatusCode.CANCELLED)

    def hello(self) -> pb.Hello:
        agent = self.agent
        listed = {held: pb.RunningCommand(**held.names, output_offset=held.end) for held in agent.held.values()}
        hello = pb.Hello(
            agent_id="model",
            instance_id=agent.instance_id,
            journal_id=agent.journal.name,
            capacity=CAPACITY,
            types=["PING", "CONFORMANCE"],
            running=[one for held, one in listed.items() if held.result is None],
            unacknowledged=[one for held, one in listed.items() if held.result],
            accepts_gzip=True,
            halts=pb.HaltMemory(stop_id=agent.halt),
        )
        if agent.orphan_after:
            hello.orphan_after.FromNanoseconds(int(agent.orphan_after * 1e9))
        return hello

    def ended(self, status: StreamEnded) -> None:
        if self.goodbye and self.agent.leaving:
            raise Leaving(0)
        if status.code == grpc.StatusCode.INVALID_ARGUMENT:
            if not self.open:
                raise Leaving(1)
            self.agent.one_by_one = len(self.unanswered) > 1
            if not self.agent.one_by_one:
                for held in self.unanswered:
                    held.result = pb.Result(**held.names, **failed("result_rejected"), output_bytes=held.end)

    # From the server, in order of field number

    def hear(self, message: pb.ConnectResponse) -> None:
        if message.gzip:
            message = pb.ConnectResponse.FromString(gzip.decompress(message.gzip))
        if message.HasField("welcome") and not self.open:
            self.welcome(message.welcome)
        if message.HasField("heartbeat_reply"):
            self.agent.failures = 0
            self.heard(message.heartbeat_reply.sequence)
        for cancel in message.cancels:
            self.cancel(cancel)
        for result_ack in message.result_acks:
            self.result_acknowledged(result_ack)
        for output_ack in message.output_acks:
            self.output_acknowledged(output_ack)
        for assigned in message.commands.assignments:
            self.assigned(assigned, message.commands.after_heartbeat)
        self.hear_last(message)
        self.flush()

    def hear_last(self, message: pb.ConnectResponse) -> None:
        if message.HasField("drain"):
            self.agent.spawn(self.move(seconds(message.drain.reconnect_after)))
        if message.HasField("stop"):
            self.agent.leave()
        if message.HasField("probe"):
            self.beat_due = True
        if message.HasField("halt"):
            self.halt(message.halt.stop_id)
        if message.HasField("resume"):
            self.agent.halt = self.agent.journal.halt = ""
            self.beat_due = True

    def halt(self, stop_id: str) -> None:
        self.agent.halt = self.agent.journal.halt = stop_id
        self.halt_said = -1
        for held in self.agent.running:
            held.stop("emergency_stop")
        self.beat_due = True

    def welcome(self, welcome: pb.Welcome) -> None:
        self.open = True
        self.heard(0)
        self.interval = seconds(welcome.heartbeat_interval)
        self.start_within = seconds(welcome.start_within)
        self.accepts_gzip = welcome.accepts_gzip
        self.agent.max_result = welcome.limits.max_result_bytes
        self.agent.max_chunk = welcome.limits.max_output_chunk_bytes
        self.agent.max_output = welcome.limits.max_unacknowledged_output_bytes
        for verdict in welcome.verdicts:
            held = self.agent.held.get(verdict.command_id)
            if held:
                self.settle(held, verdict)
        self.beat_due = True
        if welcome.HasField("halt"):
            self.halt(welcome.halt.stop_id)

    def settle(self, held: Held, verdict: pb.HeldCommandVerdict) -> None:
        if verdict.verdict not in (pb.VERDICT_STOP, pb.VERDICT_STORED):
            return held.rewind(verdict.output_offset)
        stored = verdict.verdict == pb.VERDICT_STORED
        self.agent.forget(held, again=bool(stored and held.result and held.result.transient))
        if not held.result:
            self.agent.disowned.add(held)
            held.stop("cancelled")
        return None

    def heard(self, sequence: int) -> None:
        self.heard_at = now()
        self.agent.proven_at = self.sent_at.get(sequence, self.agent.proven_at)

    def cancel(self, cancel: pb.Cancel) -> None:
        for disowned in self.agent.disowned:
            if disowned.command_id == cancel.command_id:
                disowned.cancel_lease = cancel.lease_id
                return self.report(cancel.command_id, cancel.lease_id, pb.CANCEL_FINDING_STOPPING)
        held = self.agent.held.get(cancel.command_id)
        mine = held is not None and cancel.lease_id == held.lease_id
        finding = pb.CANCEL_FINDING_STOPPING if mine else pb.CANCEL_FINDING_UNKNOWN
        self.report(cancel.command_id, cancel.lease_id, finding)
        if mine and held:
            held.stop("cancelled")
        return None

    def report(self, command_id: str, lease_id: str, finding: pb.CancelFinding.ValueType) -> None:
        self.answers.cancel_reports.add(command_id=command_id, lease_id=lease_id, finding=finding)

    def result_acknowledged(self, ack: pb.ResultAck) -> None:
        held = self.agent.held.get(ack.command_id)
        if held and held.result and ack.lease_id == held.lease_id:
            self.unanswered.discard(held)
            self.agent.forget(held, again=ack.verdict == pb.RESULT_VERDICT_STORED and held.result.transient)

    def output_acknowledged(self, ack: pb.OutputAck) -> None:
        held = self.agent.held.get(ack.command_id)
        if held is None or ack.lease_id != held.lease_id:
            return
        if not ack.HasField("reason"):
            held.acknowledge(ack.offset)
            return
        held.suspended = True
        if ack.reason.code != "stale_lease":
            held.kept = b""
            held.stop("cancelled")

    def assigned(self, assigned: pb.Assignment, after_heartbeat: int) -> None:
        command, lease_id = assigned.command, assigned.lease_id
        names: dict[str, Any] = {"command_id": command.command_id, "lease_id": lease_id}
        held = self.agent.held.get(command.command_id)
        if held:
            self.delivered_again(held, lease_id)
            return
        refusal = self.refusal(command, after_heartbeat)
        if refusal:
            reason = command_pb2.Reason(code="emergency_stop" if self.agent.halt else "")
            self.answers.refused.add(**names, code=refusal, reason=reason)
            self.beat_due = self.beat_due or refusal == pb.REFUSAL_CODE_STALE
            return
        held = Held(**names, control=command.type == "PING")
        self.agent.held[command.command_id] = held
        self.agent.journal.held[command.command_id] = lease_id, None
        self.answers.received.add(**names)
        self.answers.started.add(**names)
        self.agent.spawn(self.agent.execute(held, command))

    def delivered_again(self, held: Held, lease_id: str) -> None:
        if lease_id == held.lease_id:
            return
        held.renew(lease_id)
        self.answers.received.add(**held.names)
        self.answers.started.add(**held.names)
        if held.result:
            held.result.MergeFrom(pb.Result(**held.names))
            held.result.output_bytes = held.end
            self.unanswered.discard(held)

    def refusal(self, command: command_pb2.Command, after_heartbeat: int) -> pb.RefusalCode.ValueType | None:
        if command.command_id in self.agent.journal.done:
            return pb.REFUSAL_CODE_DUPLICATE
        if command.type not in ("PING", "CONFORMANCE"):
            return pb.REFUSAL_CODE_UNSUPPORTED
        if now() - self.sent_at.get(after_heartbeat, -math.inf) >= self.start_within:
            return pb.REFUSAL_CODE_STALE
        if self.agent.halt and command.type != "PING":
            return pb.REFUSAL_CODE_BUSY
        if command.type != "PING" and (self.agent.leaving or self.agent.busy >= CAPACITY):
            return pb.REFUSAL_CODE_BUSY
        return None

    async def move(self, after: float) -> None:
        await asyncio.sleep(after)
        await self.agent.gateway.ready.wait()
        self.moving = True
        self.flush()

    # To the server

    def tick(self) -> None:
        if now() - self.heard_at >= 3 * self.interval:
            self.stream.cancel()
        elif now() - self.beat_at >= self.interval:
            self.beat_due = True
        self.flush()

    def flush(self) -> None:
        if not self.open or self.goodbye:
            return
        while message := self.next_message():
            self.stream.send(self.packed(message))
        if self.moving or (self.agent.leaving and not self.agent.held):
            self.goodbye = True
            self.stream.send(pb.ConnectRequest(goodbye=pb.Goodbye(reason="leaving")))
            self.stream.half_close()

    def next_message(self) -> pb.ConnectRequest | None:
        message, self.answers = self.answers, pb.ConnectRequest()
        if self.beat_due:
            self.beat_due = False
            message.heartbeat.CopyFrom(self.heartbeat(message))
        for held in self.agent.held.values():
            for piece in held.pieces(self.agent.max_chunk, self.agent.max_output):
                message.output.append(piece)
                if len(message.output) == 20:
                    return message
            self.add_result(message, held)
        self.add_halted(message)
        return message if message.ListFields() else None

    def heartbeat(self, message: pb.ConnectRequest) -> pb.Heartbeat:
        self.sequence += 1
        self.beat_at = self.sent_at[self.sequence] = now()
        # Commands received in the same message, which takes effect in order, do not count yet.
        fresh = {part.command_id for part in message.received}
        running = self.agent.busy - sum(
            not held.control for held in self.agent.held.values() if held.command_id in fresh
        )
        credit = 0 if self.agent.leaving else CAPACITY - running
        beat = pb.Heartbeat(sequence=self.sequence, credit=credit, running=running, draining=self.agent.leaving)
        if self.agent.halt:
            beat.credit = 0
            beat.problems.add(code="emergency_stop")
        return beat

    def add_result(self, message: pb.ConnectRequest, held: Held) -> None:
        waits = self.agent.one_by_one and self.unanswered
        if held.result and held not in self.unanswered and not waits and len(message.results) < 20:
            self.unanswered.add(held)
            message.results.append(held.result)

    def add_halted(self, message: pb.ConnectRequest) -> None:
        running = self.agent.running
        waits = any(held.result and held not in self.unanswered for held in self.agent.held.values())
        if not self.agent.halt or len(running) == self.halt_said or (waits and not running):
            return
        self.halt_said = len(running)
        message.halted.stop_id = self.agent.halt
        message.halted.running.extend(pb.StillRunning(command_id=held.command_id) for held in running)

    def packed(self, message: pb.ConnectRequest) -> pb.ConnectRequest:
        if not self.accepts_gzip or message.ByteSize() < SMALL_BYTES:
            return message
        return pb.ConnectRequest(gzip=gzip.compress(message.SerializeToString()))
