"""Limits that the agent enforces, and commands that do not stop."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.conformance.agent_sessions import Skipped
from distributor.conformance.hello_check import seconds_of
from distributor.conformance.message_text import text
from distributor.conformance.scenario import scenario
from distributor.conformance.trial import COMPLETED, TIMEOUT, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

LIMIT_SECONDS: Final = 0.5
STOP_SECONDS: Final = 10.0
"""Time after a limit within which a command that stops at once must have ended."""
IDLE_SECONDS: Final = 1.5
STUBBORN_SECONDS: Final = 2.5
HEARTBEAT_SECONDS: Final = 1.0
EARLY_SECONDS: Final = 0.1
"""How much earlier than its timer the clock of the agent may be."""
WINDOW_BYTES: Final = 1_000
MAX_ORPHAN_SECONDS: Final = 10.0
ORPHAN_SLACK_SECONDS: Final = 2.0


@scenario("Time limits")
async def time_limit(trial: Trial) -> None:
    """A command that exceeds its time_limit is stopped and reported as TIMEOUT, time_limit."""
    await trial.session()
    command = trial.command(time_limit=LIMIT_SECONDS, seconds=600)
    began = asyncio.get_running_loop().time()
    result = await trial.run(command)
    took = asyncio.get_running_loop().time() - began
    trial.require((result.status, result.reason.code) == (TIMEOUT, "time_limit"))
    trial.require(LIMIT_SECONDS - EARLY_SECONDS <= took < LIMIT_SECONDS + STOP_SECONDS, f"after {took:.2f} s")


@scenario("Time limits")
async def idle_limit(trial: Trial) -> None:
    """A command that gives no sign of life for longer than its idle_limit is stopped: TIMEOUT, idle_limit."""
    await trial.session()
    command = trial.command(idle_limit=LIMIT_SECONDS, output=10, seconds=600)
    began = asyncio.get_running_loop().time()
    result = await trial.run(command)
    took = asyncio.get_running_loop().time() - began
    trial.require((result.status, result.reason.code) == (TIMEOUT, "idle_limit"))
    trial.require(LIMIT_SECONDS - EARLY_SECONDS <= took < LIMIT_SECONDS + STOP_SECONDS, f"after {took:.2f} s")


@scenario("Time limits")
async def idle_limit_while_output_waits(trial: Trial) -> None:
    """A command whose output waits for acknowledgements is not silent."""
    session = await trial.session(max_output=WINDOW_BYTES)
    session.ack_output = False
    command = trial.command(idle_limit=IDLE_SECONDS, output=WINDOW_BYTES + 1)
    await trial.give(command)
    await trial.until(lambda: sum(len(part.data) for part in trial.parts("output", command)) == WINDOW_BYTES)
    await asyncio.sleep(2 * IDLE_SECONDS)
    await trial.settled()
    trial.require(not trial.parts("results", command))
    session.ack_output = True
    ack = gateway.OutputAck(command_id=command.command.command_id, lease_id=command.lease_id, offset=WINDOW_BYTES)
    await session.send(gateway.ConnectResponse(output_acks=[ack]))
    trial.require((await trial.result(command)).status == COMPLETED)


@scenario("Time limits")
async def orphaned(trial: Trial) -> None:
    """An agent with orphan_after stops its commands once it has reached no server for so long: TIMEOUT, orphaned."""
    session = await trial.attached()
    after = seconds_of(session.hello.orphan_after)
    if not after:
        raise Skipped("no orphan_after")
    trial.require(after <= MAX_ORPHAN_SECONDS, f"orphan_after {after:g} s", f"one of {MAX_ORPHAN_SECONDS:g} s at most")
    await trial.welcome(heartbeat_interval=min(HEARTBEAT_SECONDS, after / 3))
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.gateway.stop()
    # It has stopped by then, as its last proof is older.
    await asyncio.sleep(after + ORPHAN_SLACK_SECONDS)
    await trial.gateway.start()
    await trial.session()
    result = await trial.result(command)
    trial.require((result.status, result.reason.code) == (TIMEOUT, "orphaned"))


@scenario("Cancel")
async def result_only_once_stopped(trial: Trial) -> None:
    """A cancelled command that does not stop counts as running, and has no result until it has really ended."""
    session = await trial.session(heartbeat_interval=HEARTBEAT_SECONDS)
    command = trial.command(output=1, seconds=STUBBORN_SECONDS, stubborn=True)
    clock = asyncio.get_running_loop().time
    # It ends later than this.
    end = clock() + STUBBORN_SECONDS - EARLY_SECONDS
    await trial.give(command)
    # Before, it may not be stubborn yet.
    await trial.part("output", command)
    begin = clock()
    await trial.cancel(command)
    trial.require((await trial.part("cancel_reports", command)).finding == gateway.CANCEL_FINDING_STOPPING)
    await trial.result(command)
    trial.require(clock() >= end, f"a result {end - clock():.1f} s early")
    for message, at in zip(session.seen, session.times, strict=True):
        if message.HasField("heartbeat") and begin < at < end:
            trial.require(message.heartbeat.running == 1, text(message), "running 1")
