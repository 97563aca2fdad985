"""Results: kept until acknowledged, sent again, forgotten."""

from __future__ import annotations

from typing import Final

import grpc

from distributor.conformance.messages import verdict
from distributor.conformance.scenario import scenario
from distributor.conformance.scripted_gateway import Refusal, error_details
from distributor.conformance.trial import FAILED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

SMALL_RESULT_BYTES: Final = 1_000


async def unacknowledged(trial: Trial) -> gateway.Assignment:
    """Run a command whose result is not acknowledged, and cut the stream; the next is not welcomed yet."""
    session = await trial.session()
    session.ack_results = False
    command = trial.command(echo="kept")
    await trial.run(command)
    await trial.dropped()
    trial.kept(command)
    return command


async def forgotten(trial: Trial) -> None:
    """Check that a Hello after this lists nothing."""
    await trial.settled()
    hello = (await trial.dropped()).hello
    trial.require(not hello.unacknowledged and not hello.running, "still listed in the Hello", "nothing in the Hello")


@scenario("Results")
async def result_sent_until_acknowledged(trial: Trial) -> None:
    """An unacknowledged result is listed and sent again after each reconnect, and not after its acknowledgement."""
    command = await unacknowledged(trial)
    trial.current.ack_results = False
    await trial.welcome()
    await trial.result(command)
    await trial.dropped()
    await trial.welcome()
    result = await trial.result(command)
    trial.require(result.data.string_value == "kept")
    await forgotten(trial)
    trial.started_once(command)


@scenario("Welcome")
async def result_with_verdict_stored(trial: Trial) -> None:
    """A result with the verdict STORED is not sent again and is forgotten."""
    await _not_sent_with(trial, gateway.VERDICT_STORED)


@scenario("Welcome")
async def result_with_verdict_stop(trial: Trial) -> None:
    """A result with the verdict STOP is not sent again and is forgotten."""
    await _not_sent_with(trial, gateway.VERDICT_STOP)


async def _not_sent_with(trial: Trial, decision: gateway.Verdict.ValueType) -> None:
    command = await unacknowledged(trial)
    await trial.welcome(verdicts=(verdict(command.command.command_id, decision),))
    await trial.quiet()
    trial.require(not trial.parts("results", command))
    await forgotten(trial)


@scenario("Results")
async def result_not_stored(trial: Trial) -> None:
    """A result is forgotten whatever its acknowledgement says: LATE, REJECTED, or a verdict yet unknown."""
    session = await trial.session()
    session.ack_results = False
    for decision in (gateway.RESULT_VERDICT_LATE, gateway.RESULT_VERDICT_REJECTED, 99):
        command = trial.command()
        await trial.run(command)
        await _acknowledge(trial, command.command.command_id, command.lease_id, decision)
    session.ack_results = True
    await forgotten(trial)


@scenario("Results")
async def result_acknowledged_under_another_lease(trial: Trial) -> None:
    """A ResultAck under another lease is ignored."""
    session = await trial.session()
    session.ack_results = False
    command = trial.command()
    await trial.run(command)
    await _acknowledge(trial, command.command.command_id, "another", gateway.RESULT_VERDICT_STORED)
    session.ack_results = True
    await trial.settled()
    await trial.dropped()
    trial.kept(command)


@scenario("Welcome")
async def result_too_large(trial: Trial) -> None:
    """A result beyond max_result_bytes is not sent; the command is FAILED instead."""
    await trial.session(max_result=SMALL_RESULT_BYTES)
    result = await trial.run(trial.command(echo="a" * 2 * SMALL_RESULT_BYTES))
    trial.require(result.status == FAILED)
    trial.require(result.ByteSize() < 2 * SMALL_RESULT_BYTES, f"{result.ByteSize()} bytes")


@scenario("Ignored messages")
async def result_that_ends_the_stream(trial: Trial) -> None:
    """A result that ends each stream as malformed is replaced by a failure with result_rejected."""
    session = await trial.session()
    session.ack_results = False
    command = trial.command(echo="unreadable")
    await trial.run(command)
    details = error_details(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE"))
    session.drop(grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be read", details)
    # Another message may have been to blame: the agent may try the result once more, alone.
    again = await trial.attached()
    again.ack_results = False
    await trial.welcome()
    await trial.result(command)
    again.drop(grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be read", details)
    await trial.session()
    result = await trial.result(command)
    trial.require((result.status, result.reason.code) == (FAILED, "result_rejected"))


async def _acknowledge(trial: Trial, command_id: str, lease_id: str, decision: int) -> None:
    ack = gateway.ResultAck(command_id=command_id, lease_id=lease_id)
    ack.MergeFromString(bytes([0x10, decision]))
    await trial.current.send(gateway.ConnectResponse(result_acks=[ack]))
