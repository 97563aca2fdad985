"""Converts messages of the agent stream to model values and checks their limits."""

from __future__ import annotations

from collections.abc import Sized
from typing import Final

from google.protobuf.duration_pb2 import Duration

from distributor.errors import InvalidArgument
from distributor.identity.audit_checkpoint import MAX_CHECKPOINT_BYTES
from distributor.model.agent import AgentHello, HeldCommand
from distributor.model.agent_report import LeaseRef, Refusal, Report, ReportedCompletion
from distributor.model.agent_session import MAX_CAPACITY, MAX_ITEMS_PER_MESSAGE, AgentSession
from distributor.model.agent_vitals import AgentVitals, bounded_vitals, last_signs
from distributor.model.command import (
    COMMAND_TYPE_PATTERN,
    MAX_DURATION_MS,
    MAX_REASON_MESSAGE,
    InvalidField,
    Reason,
    check_agent_id,
    check_command_id,
    shown,
)
from distributor.model.delivery import Extension, OutputPiece
from distributor.model.halt import HaltReport, StillRunning
from distributor.model.protocol_violation import ProtocolViolation
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.wire.at_rest_packer import STORED_PLAIN, AtRestPacker
from distributor.wire.enums import REFUSAL_FROM_WIRE, STATUS_FROM_WIRE, STREAM_FROM_WIRE
from distributor.wire.json_values import NotJson, json_text, plain_value
from distributor.wire.limits import MAX_HELD, MAX_OUTPUT_CHUNK_BYTES, MAX_OUTPUT_OFFSET, MAX_SURVIVORS
from distributor.wire.struct_check import check_value

_MAX_TYPES: Final = 100
_MAX_LABELS: Final = 64
_MAX_LABEL_BYTES: Final = 256
_MAX_NAME: Final = 128
_NANOS: Final = 1_000_000_000
_MAX_ID: Final = 64
"""Longer than any command id or lease id."""

_FINDINGS: Final = (pb.CANCEL_FINDING_STOPPING, pb.CANCEL_FINDING_UNKNOWN, pb.CANCEL_FINDING_COULD_NOT_STOP)

_NO_REASON: Final = Reason()
_PARTS: Final = ("received", "started", "refused", "output", "results", "cancel_reports", "extensions")
"""The lists in a message."""
_STREAM_NUMBERS: Final = {number: place for place, number in enumerate(STREAM_FROM_WIRE, start=1)}
"""Stream numbers as stored."""


def agent_hello(hello: pb.Hello) -> AgentHello:
    """Convert and check a Hello. Raises InvalidArgument with field and limit."""
    try:
        check_agent_id(hello.agent_id, "hello.agent_id")
        _check_held(hello)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error
    if not 1 <= len(hello.instance_id) <= _MAX_NAME:
        raise _invalid("hello.instance_id", f"hello.instance_id must have 1 to {_MAX_NAME} characters")
    if len(hello.journal_id) > _MAX_NAME:
        raise _invalid("hello.journal_id", f"hello.journal_id must have at most {_MAX_NAME} characters")
    if not 1 <= hello.capacity <= MAX_CAPACITY:
        raise _invalid("hello.capacity", f"hello.capacity must be 1 to {MAX_CAPACITY:,}, not {hello.capacity:,}")
    _check_types(hello)
    _check_labels(hello)
    return AgentHello(
        agent_id=hello.agent_id,
        instance_id=hello.instance_id,
        capacity=hello.capacity,
        types=tuple(dict.fromkeys(hello.types)),
        labels=dict(hello.labels),
        version=hello.agent_version[:_MAX_NAME],
        held=(
            *(_held(item, running=True) for item in hello.running),
            *(_held(item, running=False) for item in hello.unacknowledged),
        ),
        accepts_gzip=hello.accepts_gzip,
        journal_id=hello.journal_id,
        orphan_after_ms=_orphan_after_ms(hello.orphan_after),
        # One that is too long is none of ours, and no reason to keep the agent out.
        checkpoint=hello.checkpoint if len(hello.checkpoint) <= MAX_CHECKPOINT_BYTES else "",
        knows_halts=hello.HasField("halts"),
        halted=hello.halts.stop_id,
    )


def _orphan_after_ms(orphan_after: Duration) -> int:
    """0 if it is unset. More than 30 days, like never, shortens no wait."""
    ms = -(-orphan_after.nanos // 1_000_000) + orphan_after.seconds * 1000
    if ms < 0 or not 0 <= orphan_after.nanos < _NANOS:
        raise _invalid("hello.orphan_after", f"hello.orphan_after must not be negative, but is {ms:,} ms")
    return 0 if ms > MAX_DURATION_MS else ms


def _held(item: pb.RunningCommand, running: bool) -> HeldCommand:
    return HeldCommand(item.command_id, item.lease_id, running, item.output_offset)


def _check_held(hello: pb.Hello) -> None:
    count = len(hello.running) + len(hello.unacknowledged)
    if count > MAX_HELD:
        raise _invalid("hello.running", f"hello lists {count:,} held commands, the limit is {MAX_HELD:,}")
    for field, items in (("hello.running", hello.running), ("hello.unacknowledged", hello.unacknowledged)):
        for item in items:
            check_command_id(item.command_id, f"{field}.command_id")
            if len(item.lease_id) > _MAX_ID:
                raise _invalid(
                    f"{field}.lease_id",
                    f"{field}.lease_id must have at most {_MAX_ID} characters, not {len(item.lease_id):,}",
                )
            if not 0 <= item.output_offset <= MAX_OUTPUT_OFFSET:
                raise _invalid(
                    f"{field}.output_offset", f"{field}.output_offset must be 0 to 2^53, not {item.output_offset:,}"
                )


def _check_types(hello: pb.Hello) -> None:
    if len(hello.types) > _MAX_TYPES:
        raise _invalid("hello.types", f"hello.types has {len(hello.types):,} entries, the limit is {_MAX_TYPES}")
    for kind in hello.types:
        if not COMMAND_TYPE_PATTERN.fullmatch(kind):
            raise _invalid("hello.types", f"hello.types has {shown(kind)}, which is not a command type")


def _check_labels(hello: pb.Hello) -> None:
    if len(hello.labels) > _MAX_LABELS:
        raise _invalid("hello.labels", f"hello.labels has {len(hello.labels):,} entries, the limit is {_MAX_LABELS}")
    for name, value in hello.labels.items():
        if not name or len(name) + len(value) > _MAX_LABEL_BYTES:
            raise _invalid("hello.labels", f"hello.labels must have names, and {_MAX_LABEL_BYTES} characters each")


def report(request: pb.ConnectRequest, agent_id: str, at_rest: AtRestPacker = STORED_PLAIN) -> Report:
    """Convert the command reports of a message. Raises ProtocolViolation if it exceeds a limit.

    `at_rest` compresses results and output as they are to be stored.
    """
    received, started, refused = request.received, request.started, request.refused
    outputs, results, cancels = request.output, request.results, request.cancel_reports
    extensions = request.extensions
    parts: tuple[Sized, ...] = (received, started, refused, outputs, results, cancels, extensions)
    for field, items in zip(_PARTS, parts, strict=True):
        if len(items) > MAX_ITEMS_PER_MESSAGE:
            raise ProtocolViolation(field, f"{field} has {len(items)} entries, the limit is {MAX_ITEMS_PER_MESSAGE}")
    # Most messages have one to three of these parts.
    findings = [(item.finding, _cancelled(item), item) for item in cancels] if cancels else ()
    return Report(
        received=[_lease_ref("received", item) for item in received] if received else (),
        started=[_lease_ref("started", item) for item in started] if started else (),
        refusals=[_refusal(item) for item in refused] if refused else (),
        outputs=[_output(item, agent_id, at_rest) for item in outputs] if outputs else (),
        completions=[_completion(item, at_rest) for item in results] if results else (),
        not_found=[lease for finding, lease, _ in findings if finding == pb.CANCEL_FINDING_UNKNOWN] if findings else (),
        stopping=[lease for finding, lease, _ in findings if finding == pb.CANCEL_FINDING_STOPPING] if findings else (),
        survivors=[
            (lease, _survivors(item) or "processes that the agent does not name")
            for finding, lease, item in findings
            if finding == pb.CANCEL_FINDING_COULD_NOT_STOP
        ]
        if findings
        else (),
        extensions=[_extension(item, agent_id) for item in extensions] if extensions else (),
    )


def halt_report(halted: pb.Halted, since_ms: int) -> HaltReport:
    """Convert what an agent says of its halt, bounded. Raises ProtocolViolation for more than 1,000 commands."""
    if len(halted.running) > MAX_HELD:
        raise ProtocolViolation(
            "halted.running", f"halted.running has {len(halted.running):,} entries, the limit is {MAX_HELD:,}"
        )
    running = (StillRunning(one.command_id[:_MAX_ID], _survivors(one)) for one in halted.running)
    return HaltReport(halted.stop_id[:_MAX_ID], since_ms, tuple(running))


def vitals_of(heartbeat: pb.Heartbeat) -> AgentVitals:
    """The vitals that a heartbeat reports, bounded."""
    lag = heartbeat.handler_lag
    problems = [(problem.code, problem.message) for problem in heartbeat.problems]
    return bounded_vitals(lag.seconds * 1000 + lag.nanos // 1_000_000, heartbeat.draining, problems)


def signs_of(heartbeat: pb.Heartbeat, session: AgentSession, now: float) -> dict[str, float]:
    """When the silent ones of the session's commands gave their last sign of life; `now` is in monotonic ms."""
    silences = (
        (one.command_id, one.silence.seconds * 1000 + one.silence.nanos // 1_000_000)
        for one in heartbeat.progress
        if one.command_id in session.in_flight
    )
    return last_signs(silences, session.silent_after_ms, now)


def _survivors(item: pb.CancelReport | pb.Result | pb.StillRunning) -> str:
    """The processes that still run, readable: at most 20, each name on one line."""
    found = [f"{one.pid} ({shown(one.name, _MAX_NAME)[1:-1]})" for one in item.survivors[:MAX_SURVIVORS]]
    return ", ".join(found)


def _lease_ref(
    field: str, item: pb.Received | pb.Started | pb.Refused | pb.Output | pb.Result | pb.CancelReport | pb.Extension
) -> LeaseRef:
    lease = LeaseRef(item.command_id, item.lease_id)
    # On the hot path, so only the length is checked: a malformed id is unknown anyway.
    if len(lease.command_id) > _MAX_ID or len(lease.lease_id) > _MAX_ID:
        part = "lease_id" if len(lease.command_id) <= _MAX_ID else "command_id"
        raise ProtocolViolation(f"{field}.{part}", f"{field}.{part} must have at most {_MAX_ID} characters")
    return lease


def _cancelled(item: pb.CancelReport) -> LeaseRef:
    if item.finding not in _FINDINGS:
        raise ProtocolViolation("cancel_reports.finding", f"cancel_reports.finding has no value {item.finding}")
    return _lease_ref("cancel_reports", item)


def _refusal(item: pb.Refused) -> Refusal:
    kind = REFUSAL_FROM_WIRE.get(item.code)
    if kind is None:
        raise ProtocolViolation("refused.code", f"refused.code has no value {item.code}")
    return Refusal(_lease_ref("refused", item), kind, Reason(item.reason.code, item.reason.message))


def _output(item: pb.Output, agent_id: str, at_rest: AtRestPacker) -> OutputPiece:
    stream = _STREAM_NUMBERS.get(item.stream)
    if stream is None:
        raise ProtocolViolation("output.stream", f"output.stream has no value {item.stream}")
    if not 0 < len(item.data) <= MAX_OUTPUT_CHUNK_BYTES:
        raise ProtocolViolation(
            "output.data", f"output.data must have 1 to {MAX_OUTPUT_CHUNK_BYTES:,} bytes, not {len(item.data):,}"
        )
    if not 0 <= item.offset <= MAX_OUTPUT_OFFSET - len(item.data):
        raise ProtocolViolation(
            "output.offset", f"output.offset must be 0 to 2^53, and so must its end, not {item.offset:,}"
        )
    command_id, lease_id = _lease_ref("output", item)
    return OutputPiece(command_id, agent_id, lease_id, stream, item.offset, item.data, at_rest.output(item.data))


def _extension(item: pb.Extension, agent_id: str) -> Extension:
    limit, field = item.time_limit, "extensions.time_limit"
    ms = limit.seconds * 1000 + limit.nanos // 1_000_000
    if not (0 <= limit.nanos < _NANOS and 0 < ms <= MAX_DURATION_MS):
        raise ProtocolViolation(field, f"{field} must be 1 ms to 30 days, not {ms:,} ms")
    command_id, lease_id = _lease_ref("extensions", item)
    return Extension(command_id, agent_id, lease_id, ms)


def _completion(item: pb.Result, at_rest: AtRestPacker) -> ReportedCompletion:
    data_json, fault = "", None
    if item.HasField("data"):
        try:
            check_value(item.data, "result.data")
            data_json = json_text(plain_value(item.data), "result.data")
        except NotJson as error:
            fault = Reason("invalid_result", str(error)[:MAX_REASON_MESSAGE])
    return ReportedCompletion(
        _lease_ref("results", item),
        STATUS_FROM_WIRE.get(item.status),
        Reason(item.reason.code, item.reason.message) if item.HasField("reason") else _NO_REASON,
        item.exit_code if item.HasField("exit_code") else None,
        data_json,
        item.output_bytes,
        item.transient,
        fault,
        _survivors(item) if item.survivors else "",
        at_rest.result_data(data_json),
    )


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, field=field, reason="INVALID_HELLO")
