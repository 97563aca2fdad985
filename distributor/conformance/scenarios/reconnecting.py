"""Streams that end, and what comes after."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

import grpc

from distributor.conformance.agent_sessions import MAX_BACKOFF_SECONDS
from distributor.conformance.messages import verdict
from distributor.conformance.scenario import LAUNCH, scenario
from distributor.conformance.scripted_gateway import Refusal
from distributor.conformance.trial import Trial
from distributor.v1 import agent_gateway_pb2 as gateway

STORM_SECONDS: Final = 3.0
STORM_HELLOS: Final = 15
"""With full jitter from 1 s on, about three Hellos fall into STORM_SECONDS."""
RETRY_SECONDS: Final = 0.3
RETRY_SLACK_SECONDS: Final = 5.0


@scenario("Reconnecting")
async def running_command_survives(trial: Trial) -> None:
    """A running command survives a broken stream: the next Hello lists it, and KEEP lets it go on."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.dropped()
    trial.held(command)
    await trial.welcome()
    await trial.cancelled(command)
    trial.started_once(command)


@scenario("Reconnecting")
async def server_restart(trial: Trial) -> None:
    """A running command survives a restart of the server, which cuts the connection."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.gateway.stop()
    await trial.gateway.start()
    await trial.session()
    await trial.cancelled(command)
    trial.started_once(command)


@scenario("Reconnecting")
async def running_command_with_verdict_stop(trial: Trial) -> None:
    """A running command with the verdict STOP is stopped without a word, but for a heartbeat once it has ended."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.dropped()
    stop = verdict(command.command.command_id, gateway.VERDICT_STOP)
    await trial.welcome(verdicts=(stop,), heartbeat_interval=60.0, start_within=90.0)
    await trial.current.until(
        lambda seen: any(m.HasField("heartbeat") and not m.heartbeat.running for m in seen),
        "a heartbeat with running 0, without waiting for the next interval",
    )
    await trial.settled()
    said = [part for name in ("output", "results", "cancel_reports") for part in trial.parts(name, command)]
    trial.require(not said)
    trial.require(not (await trial.dropped()).hello.running, "still in the Hello", "nothing in the Hello")


@scenario("How a stream can end")
async def superseded(trial: Trial) -> None:
    """An agent whose session was superseded abandons the stream and comes back."""
    session = await trial.session()
    await trial.settled()
    session.drop(grpc.StatusCode.ABORTED, "a newer session is open")
    again = await trial.session()
    trial.require(again.hello.instance_id == session.hello.instance_id)
    await trial.settled()


@scenario("How a stream can end", LAUNCH)
async def invalid_hello(trial: Trial) -> None:
    """An agent whose Hello was refused as invalid does not send it again."""
    await trial.session()
    before = trial.gateway.hellos
    trial.gateway.refuse = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_HELLO")]
    trial.current.drop()
    await asyncio.sleep(STORM_SECONDS)
    count = trial.gateway.hellos - before
    trial.require(count == 1, f"{count} Hellos", "one Hello")


@scenario("Hello")
async def agent_id_taken(trial: Trial) -> None:
    """After AGENT_ID_TAKEN the agent retries by the time in RetryInfo, even if its backoff is longer."""
    await trial.session()
    before = trial.gateway.hellos
    refusal = Refusal(grpc.StatusCode.ALREADY_EXISTS, "AGENT_ID_TAKEN", retry_after=RETRY_SECONDS)
    trial.gateway.refuse = [refusal] * 8
    await trial.dropped()
    await trial.welcome()
    await trial.settled()
    times = trial.gateway.hello_times[before:]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    trial.require(max(waits) < RETRY_SECONDS + RETRY_SLACK_SECONDS, f"waits of {[round(wait, 1) for wait in waits]} s")


@scenario("Reconnecting")
async def backoff_without_storm(trial: Trial) -> None:
    """An agent that is refused again and again backs off, and is back after that."""
    await trial.session()
    before = trial.gateway.hellos
    trial.gateway.refuse = [grpc.StatusCode.UNAVAILABLE] * 1_000
    trial.current.drop()
    await asyncio.sleep(STORM_SECONDS)
    count = trial.gateway.hellos - before
    trial.require(count <= STORM_HELLOS, f"{count} Hellos in {STORM_SECONDS:g} s", f"at most {STORM_HELLOS}")
    trial.gateway.refuse.clear()
    await trial.attached(backoff=MAX_BACKOFF_SECONDS)
    await trial.welcome()
    await trial.settled()
