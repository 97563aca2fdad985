"""Drain, stop and leaving in order."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from distributor.conformance.scenario import LAUNCH, scenario
from distributor.conformance.trial import CANCELLED, COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

STAY_AWAY_SECONDS: Final = 2.0
RECONNECT_AFTER_SECONDS: Final = 1.0
EARLY_SECONDS: Final = 0.1
"""How much earlier than its timer the clock of the agent may be."""


@scenario("Leaving")
async def drain(trial: Trial) -> None:
    """After Drain the agent goes on until it finds a server that is ready, then moves there with what it runs."""
    session = await trial.session()
    (running,) = trial.sleepers(1)
    await trial.give(running)
    await trial.started(running)
    await trial.gateway.set_serving(False)
    await _drain(trial, 0.0)
    trial.require((await trial.run(trial.command())).status == COMPLETED)
    await trial.quiet()
    trial.require(not session.said_goodbye(), "Goodbye", "no Goodbye before another server is ready")
    await trial.gateway.set_serving(True)
    await trial.until(session.said_goodbye, "Goodbye")
    await trial.until(lambda: session.ended, "the end of the stream")
    trial.require(session.half_closed, "a cut stream", "a half-close")
    await trial.session()
    trial.held(running)
    await trial.cancel(running)
    trial.require((await trial.result(running)).status == CANCELLED)
    trial.started_once(running)


@scenario("Leaving")
async def drain_with_a_delay(trial: Trial) -> None:
    """After Drain the agent does not look for another server before reconnect_after."""
    session = await trial.session()
    await _drain(trial, RECONNECT_AFTER_SECONDS)
    began = asyncio.get_running_loop().time()
    await trial.until(session.said_goodbye, "Goodbye")
    took = asyncio.get_running_loop().time() - began
    trial.require(took >= RECONNECT_AFTER_SECONDS - EARLY_SECONDS, f"after {took:.2f} s")


@scenario("Leaving")
async def drain_that_breaks(trial: Trial) -> None:
    """An agent whose stream breaks after Drain reconnects as usual, with what it runs."""
    await trial.session()
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.gateway.set_serving(False)
    await _drain(trial, 60.0)
    await trial.settled()
    await trial.dropped()
    await trial.welcome()
    await trial.cancelled(command)
    trial.started_once(command)


@scenario("Leaving", LAUNCH)
async def leave_on_stop(trial: Trial) -> None:
    """After Stop the agent lets its command end, says Goodbye, half-closes, and does not come back."""
    session = await trial.session()
    command = trial.command(seconds=0.5)
    await trial.give(command)
    await trial.started(command)
    await session.send(gateway.ConnectResponse(stop=gateway.Stop(reason="conformance")))
    trial.require((await trial.result(command)).status == COMPLETED)
    await _left(trial)


@scenario("Leaving", LAUNCH)
async def leave_on_signal(trial: Trial) -> None:
    """After SIGTERM the agent announces credit 0, refuses commands as BUSY, lets its own end, and leaves in order."""
    await trial.session(heartbeat_interval=60.0, start_within=90.0)
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    trial.agent.send_signal(signal.SIGTERM)
    await trial.heartbeat(lambda beat: beat.credit == 0, "a heartbeat with credit 0")
    another = trial.command()
    await trial.give(another)
    trial.require((await trial.refused(another)).code == gateway.REFUSAL_CODE_BUSY)
    await trial.cancel(command)
    trial.require((await trial.result(command)).status == CANCELLED)
    await _left(trial)


async def _drain(trial: Trial, reconnect_after: float) -> None:
    message = gateway.ConnectResponse()
    message.drain.reconnect_after.FromNanoseconds(int(reconnect_after * 1e9))
    await trial.current.send(message)


async def _left(trial: Trial) -> None:
    session = trial.current
    await trial.until(session.said_goodbye, "Goodbye")
    await trial.until(lambda: session.ended, "the end of the stream")
    trial.require(session.half_closed, "a cut stream", "a half-close")
    before = trial.gateway.hellos
    await asyncio.sleep(STAY_AWAY_SECONDS)
    trial.require(trial.gateway.hellos == before, "another Hello", "no further Hello")
