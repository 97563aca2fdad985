"""Output of commands and its acknowledgements."""

from __future__ import annotations

from typing import Final

from distributor.conformance.scenario import scenario
from distributor.conformance.scripted_session import ScriptedSession
from distributor.conformance.trial import CANCELLED, COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz"
CHUNK_BYTES: Final = 1_000
WINDOW_BYTES: Final = 4_096
LARGE_BYTES: Final = 20_000


def printed(length: int) -> bytes:
    """What the handler of CONFORMANCE prints: the alphabet over and over."""
    return (ALPHABET * (length // len(ALPHABET) + 1))[:length]


def check_output(trial: Trial, parts: list[gateway.Output], first: int, length: int) -> None:
    """Check that output is whole from `first` to `length` and in order."""
    end = first
    for part in parts:
        trial.require(part.offset == end, f"offset {part.offset} after {end}", "output without gaps or repeats")
        trial.require(
            part.data == printed(part.offset + len(part.data))[part.offset :], f"other bytes at {part.offset}"
        )
        end += len(part.data)
    trial.require(end == length, f"output up to {end}", f"output up to {length}")


@scenario("Output")
async def output_in_chunks(trial: Trial) -> None:
    """Output comes whole, in order, from offset 0, in chunks within the limit, before the result, which counts it."""
    session = await trial.session(max_chunk=CHUNK_BYTES)
    command = trial.command(output=LARGE_BYTES)
    result = await trial.run(command)
    parts = trial.parts("output", command)
    check_output(trial, parts, 0, LARGE_BYTES)
    trial.require(max(len(part.data) for part in parts) <= CHUNK_BYTES, "a longer chunk")
    known = (command_pb2.OUTPUT_STREAM_STDOUT, command_pb2.OUTPUT_STREAM_STDERR)
    trial.require(all(part.stream in known for part in parts), "an unknown stream")
    trial.require(all(len(message.output) <= 20 for message in session.seen), "over 20 parts in a message")
    trial.require(result.output_bytes == LARGE_BYTES, f"output_bytes {result.output_bytes}")


@scenario("Output")
async def output_window(trial: Trial) -> None:
    """Unacknowledged output stays within the limit; the program waits, and goes on after an acknowledgement."""
    session = await trial.session(max_output=WINDOW_BYTES)
    session.ack_output = False
    command = trial.command(output=LARGE_BYTES)
    await trial.give(command)
    safe = 0
    while safe < LARGE_BYTES:
        most = min(safe + WINDOW_BYTES, LARGE_BYTES)
        await _output_until(trial, command, most)
        await trial.quiet()
        trial.require(_end(trial, command) <= most, f"output up to {_end(trial, command)}", f"output up to {most}")
        safe = most
        await _acknowledge(trial, command, safe)
    trial.require((await trial.result(command)).status == COMPLETED)
    check_output(trial, trial.parts("output", command), 0, LARGE_BYTES)


@scenario("Output")
async def output_rewind(trial: Trial) -> None:
    """After a reconnect, output comes again from the verdict's output_offset."""
    session, command = await _printed(trial, LARGE_BYTES)
    await _acknowledge(trial, command, 5_000)
    await trial.settled()
    await trial.dropped()
    offset = trial.held(command).output_offset
    trial.require(offset == LARGE_BYTES, f"output_offset {offset} in the Hello")
    session.safe[command.lease_id] = 7_000
    await trial.welcome()
    await _output_until(trial, command, LARGE_BYTES)
    result = await trial.cancelled(command)
    trial.require(result.output_bytes == LARGE_BYTES, f"output_bytes {result.output_bytes}")
    check_output(trial, trial.parts("output", command), 7_000, LARGE_BYTES)


@scenario("Output")
async def output_under_new_lease(trial: Trial) -> None:
    """Under a new lease output counts from 0 again, from the first unacknowledged byte."""
    _, command = await _printed(trial, LARGE_BYTES)
    await _acknowledge(trial, command, 5_000)
    await trial.settled()
    again = trial.again(command)
    await trial.give(again)
    await _output_until(trial, again, LARGE_BYTES - 5_000)
    result = await trial.cancelled(again)
    parts = trial.parts("output", again)
    trial.require(parts[0].offset == 0, f"offset {parts[0].offset}", "offset 0")
    trial.require(b"".join(part.data for part in parts) == printed(LARGE_BYTES)[5_000:], "other bytes")
    trial.require(result.output_bytes == LARGE_BYTES - 5_000, f"output_bytes {result.output_bytes}")


@scenario("Output")
async def output_acknowledged_under_another_lease(trial: Trial) -> None:
    """An OutputAck under another lease is ignored."""
    session, command = await _printed(trial, 1_000)
    foreign = gateway.OutputAck(command_id=command.command.command_id, lease_id="another", offset=1_000)
    await session.send(gateway.ConnectResponse(output_acks=[foreign]))
    await trial.settled()
    await trial.dropped()
    await trial.welcome()
    await _output_until(trial, command, 1_000)
    await trial.cancelled(command)
    check_output(trial, trial.parts("output", command), 0, 1_000)


@scenario("Output")
async def output_of_a_stale_lease(trial: Trial) -> None:
    """After an OutputAck with stale_lease, output waits for the next lease, and comes under it from 0."""
    _, command = await _printed(trial, 1_000)
    await _refuse_output(trial, command, "stale_lease")
    await trial.settled()
    again = trial.again(command)
    await trial.give(again)
    await _output_until(trial, again, 1_000)
    await trial.cancelled(again)
    check_output(trial, trial.parts("output", again), 0, 1_000)


@scenario("Output")
async def output_of_an_ended_command(trial: Trial) -> None:
    """After an OutputAck with command_ended, the command is stopped and sends no more output."""
    session = await trial.session(max_output=WINDOW_BYTES)
    session.ack_output = False
    command = trial.command(output=LARGE_BYTES, seconds=600)
    await trial.give(command)
    await _output_until(trial, command, WINDOW_BYTES)
    await _refuse_output(trial, command, "command_ended")
    result = await trial.result(command)
    trial.require(result.status == CANCELLED)
    trial.require(_end(trial, command) == WINDOW_BYTES, "more output")


async def _printed(trial: Trial, length: int) -> tuple[ScriptedSession, gateway.Assignment]:
    """Let a command print so much, which is not acknowledged, and run on."""
    session = await trial.session()
    session.ack_output = False
    command = trial.command(output=length, seconds=600)
    await trial.give(command)
    await _output_until(trial, command, length)
    return session, command


async def _output_until(trial: Trial, command: gateway.Assignment, end: int) -> None:
    await trial.until(lambda: _end(trial, command) >= end, f"output up to {end}")


def _end(trial: Trial, command: gateway.Assignment) -> int:
    return max((part.offset + len(part.data) for part in trial.parts("output", command)), default=0)


async def _acknowledge(trial: Trial, command: gateway.Assignment, offset: int) -> None:
    ack = gateway.OutputAck(command_id=command.command.command_id, lease_id=command.lease_id, offset=offset)
    await trial.current.send(gateway.ConnectResponse(output_acks=[ack]))


async def _refuse_output(trial: Trial, command: gateway.Assignment, code: str) -> None:
    reason = command_pb2.Reason(code=code)
    ack = gateway.OutputAck(command_id=command.command.command_id, lease_id=command.lease_id, reason=reason)
    await trial.current.send(gateway.ConnectResponse(output_acks=[ack]))
