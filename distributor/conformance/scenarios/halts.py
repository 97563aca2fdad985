"""Emergency stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from distributor.conformance.agent_sessions import Skipped
from distributor.conformance.scenario import LAUNCH, scenario
from distributor.conformance.scenarios.journal import journalled
from distributor.conformance.scripted_session import ScriptedSession
from distributor.conformance.trial import CANCELLED, COMPLETED, Trial
from distributor.v1 import agent_gateway_pb2 as gateway

STUBBORN_SECONDS: Final = 2.5
EARLY_SECONDS: Final = 0.1
"""How much earlier than its timer the clock of the agent may be."""
CODE: Final = "emergency_stop"


@scenario("Emergency stop")
async def halt_while_running(trial: Trial) -> None:
    """After a Halt every command ends as CANCELLED, emergency_stop; only then does Halted say that nothing runs."""
    await _halting_session(trial)
    commands = trial.sleepers(2)
    await trial.give(*commands)
    await trial.started(*commands)
    stop_id = await trial.halt()
    for command in commands:
        await _ended(trial, command)
    await _nothing_runs(trial, stop_id)


@scenario("Emergency stop")
async def halt_of_a_stubborn_command(trial: Trial) -> None:
    """A Halt is answered at once with what runs on; Halted is empty only once it has really ended."""
    session = await _halting_session(trial)
    clock = asyncio.get_running_loop().time
    command = trial.command(output=1, seconds=STUBBORN_SECONDS, stubborn=True)
    # It ends later than this.
    end = clock() + STUBBORN_SECONDS - EARLY_SECONDS
    await trial.give(command)
    # Before, it may not be stubborn yet.
    await trial.part("output", command)
    stop_id = await trial.halt()
    await trial.settled()
    named = [[one.command_id for one in report.running] for report in _reports(session)]
    trial.require([command.command.command_id] in named or clock() >= end, expected="Halted with the command, at once")
    await trial.result(command)
    await _nothing_runs(trial, stop_id)
    trial.require(clock() >= end, f"an empty Halted {end - clock():.1f} s early")


@scenario("Emergency stop")
async def halted_agent_starts_nothing(trial: Trial) -> None:
    """A halted agent refuses commands as BUSY, emergency_stop, and answers PING; after Resume it works again."""
    await _halting_session(trial)
    stop_id = await trial.halt()
    await _nothing_runs(trial, stop_id)
    await _refused(trial)
    await trial.resume(stop_id)
    trial.require((await trial.run(trial.command())).status == COMPLETED, expected="a completed command after Resume")


@scenario("Emergency stop")
async def halt_right_after_a_command(trial: Trial) -> None:
    """A command with a Halt right behind it is refused as BUSY without a start, or ended, before Halted is empty."""
    session = await _halting_session(trial)
    (command,) = trial.sleepers(1)
    stop_id = trial.new_stop()
    message = gateway.ConnectResponse(halt=gateway.Halt(stop_id=stop_id))
    message.commands.assignments.append(command)
    message.commands.after_heartbeat = session.answered_heartbeat
    await session.send(message)
    await _nothing_runs(trial, stop_id)
    await trial.quiet()
    refused = [(one.code, one.reason.code) for one in trial.parts("refused", command)]
    if refused:
        trial.require(refused == [(gateway.REFUSAL_CODE_BUSY, CODE)])
        trial.require(not trial.starts(command), "a start", "no start of a refused command")
    else:
        await _ended(trial, command)


@scenario("Emergency stop")
async def halt_in_heartbeats(trial: Trial) -> None:
    """Halt and Resume cause a heartbeat at once: credit 0 and the problem emergency_stop, then room and no problem."""
    session = await _halting_session(trial, heartbeat_interval=60.0, start_within=90.0)
    await trial.until(lambda: session.answered_heartbeat == 1, "a heartbeat after the Welcome")
    before = len(session.seen)
    stop_id = await trial.halt()
    await _beat(
        session,
        before,
        lambda beat: beat.credit == 0 and CODE in [one.code for one in beat.problems],
        "a heartbeat with credit 0 and the problem emergency_stop",
    )
    before = len(session.seen)
    await trial.resume(stop_id)
    await _beat(
        session,
        before,
        lambda beat: beat.credit == session.hello.capacity and not beat.problems,
        "a heartbeat with all capacity and without a problem",
    )


@scenario("Emergency stop")
async def later_halt(trial: Trial) -> None:
    """A second Halt takes the place of the first: Halted and the next Hello name it."""
    await _halting_session(trial)
    await _nothing_runs(trial, await trial.halt())
    later = await trial.halt()
    await _nothing_runs(trial, later)
    await trial.dropped()
    _remembers(trial, later)


@scenario("Emergency stop")
async def halt_in_the_welcome(trial: Trial) -> None:
    """A Welcome with a halt ends what the verdict keeps, and nothing starts."""
    await _halting_session(trial)
    (command,) = trial.sleepers(1)
    await trial.give(command)
    await trial.started(command)
    await trial.dropped()
    stop_id = trial.new_stop()
    await trial.welcome(halt=stop_id)
    await _ended(trial, command)
    await _nothing_runs(trial, stop_id)
    await _refused(trial)


@scenario("Emergency stop")
async def halt_over_a_reconnect(trial: Trial) -> None:
    """The next Hello names the emergency stop, which stays in force, though the Welcome has no halt, until Resume."""
    await _halting_session(trial)
    stop_id = await trial.halt()
    await _nothing_runs(trial, stop_id)
    await trial.dropped()
    _remembers(trial, stop_id)
    await trial.welcome()
    await _refused(trial)
    await trial.resume(stop_id)
    trial.require((await trial.run(trial.command())).status == COMPLETED, expected="a completed command after Resume")
    await trial.dropped()
    _remembers(trial, "")


@scenario("Emergency stop", LAUNCH)
async def halt_over_a_restart(trial: Trial) -> None:
    """With a journal, an emergency stop stays in force over kill -9 and a restart, and so does its end."""
    await journalled(trial)
    _check_halting(trial.current)
    stop_id = await trial.halt()
    await _nothing_runs(trial, stop_id)
    await trial.restart()
    await trial.session()
    _remembers(trial, stop_id)
    await _refused(trial)
    await trial.resume(stop_id)
    trial.require((await trial.run(trial.command())).status == COMPLETED, expected="a completed command after Resume")
    await trial.restart()
    await trial.session()
    _remembers(trial, "")


async def _halting_session(trial: Trial, **welcome: float) -> ScriptedSession:
    """The first session. Raises Skipped if the agent does not know emergency stops."""
    session = await trial.session(**welcome)
    _check_halting(session)
    return session


def _check_halting(session: ScriptedSession) -> None:
    if not session.hello.HasField("halts"):
        raise Skipped("no halts")


def _remembers(trial: Trial, stop_id: str) -> None:
    """Check which emergency stop the current Hello names."""
    named = trial.current.hello.halts.stop_id
    trial.require(named == stop_id, f"halts.stop_id {named!r} in the Hello", f"halts.stop_id {stop_id!r} in the Hello")


def _reports(session: ScriptedSession) -> list[gateway.Halted]:
    return [message.halted for message in session.seen if message.HasField("halted")]


async def _nothing_runs(trial: Trial, stop_id: str) -> None:
    """Wait until the agent says that nothing runs under a stop. Raises Unmet if a command has no result by then."""
    session = trial.current
    empty = gateway.Halted(stop_id=stop_id)
    await trial.until(lambda: empty in _reports(session), "an empty Halted with the stop_id of the latest Halt")
    seen = session.seen
    at = next(number for number, one in enumerate(seen) if one.HasField("halted") and one.halted == empty)
    until = seen[: at + 1]
    ended = {part.command_id for message in until for part in message.results}
    ended |= {part.command_id for message in until for part in message.refused}
    left = {part.command_id for message in until for part in message.received} - ended
    trial.require(not left, expected="results first, then an empty Halted")


async def _ended(trial: Trial, command: gateway.Assignment) -> None:
    result = await trial.result(command)
    trial.require((result.status, result.reason.code) == (CANCELLED, CODE), expected=f"CANCELLED, {CODE}")


async def _refused(trial: Trial) -> None:
    """Check that a command is refused, not started, and that a PING is answered."""
    command = trial.command()
    await trial.give(command)
    await trial.until(lambda: trial.parts("refused", command) or trial.parts("results", command), "Refused")
    refused = [(one.code, one.reason.code) for one in trial.parts("refused", command)]
    trial.require(refused == [(gateway.REFUSAL_CODE_BUSY, CODE)], expected=f"Refused BUSY, {CODE}")
    await trial.quiet()
    trial.require(not trial.starts(command), "a start", "no start of a refused command")


async def _beat(
    session: ScriptedSession, since: int, wanted: Callable[[gateway.Heartbeat], object], expected: str
) -> None:
    """Wait for a heartbeat, from a message of a number on, that is as wanted."""
    await session.until(
        lambda seen: any(one.HasField("heartbeat") and wanted(one.heartbeat) for one in seen[since:]), expected
    )
