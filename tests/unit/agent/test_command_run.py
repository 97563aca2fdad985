from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn, cast

import pytest

from distributor.agent import result as results
from distributor.agent.actions import StopCause
from distributor.agent.command_context import CommandContext, CommandFailed, Handler
from distributor.agent.command_run import CommandRun, RunLimits
from distributor.agent.current_session import CurrentSession
from distributor.agent.handler_call import HandlerEnding, LoopCall
from distributor.agent.record import RecordedCommand
from distributor.timeouts import Timeouts
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import assignment
from tests.support.waiting import PATIENCE_SECONDS

STATUS = command_pb2.CommandStatus.Name


class Run:
    """A command run whose results are collected."""

    def __init__(
        self,
        handler: Handler,
        time_limit: float | None = None,
        session: CurrentSession | None = None,
        stop_grace: float = 3_600.0,
        idle_limit: float | None = None,
    ) -> None:
        self.results: list[gateway.Result] = []
        self.held = RecordedCommand("a", "lease")
        given = assignment("a", time_limit=time_limit)
        if idle_limit is not None:
            given.command.idle_limit.FromNanoseconds(int(idle_limit * 1e9))
        self.context = CommandContext(given, self.held.window, session or CurrentSession())
        call = LoopCall(handler, self.context, self.held, 1_000, None)
        loop = asyncio.get_running_loop()
        limits = RunLimits(
            Timeouts(loop, lambda run: run.stop(StopCause.TIME_LIMIT)), Timeouts(loop, CommandRun.check_idle)
        )
        self.run = CommandRun(self.held, self.context, call, stop_grace, limits)
        self.context.on_extend = lambda _, limit: self.extensions.append(limit)
        self.extensions: list[float] = []
        self.released, self.overdue = asyncio.Event(), asyncio.Event()
        self.run.start(
            lambda _, result: self.results.append(result),
            lambda _: self.released.set(),
            lambda _: self.overdue.set(),
        )

    async def ended(self) -> tuple[str, str]:
        """Status and reason code of the only result."""
        await self.run.ended()
        (result,) = self.results
        return STATUS(result.status).removeprefix("COMMAND_STATUS_"), result.reason.code


async def test_a_value_completes() -> None:
    async def handler(command: CommandContext) -> object:
        return command.type

    assert await Run(handler).ended() == ("COMPLETED", "")


async def test_an_exception_fails_and_its_traceback_goes_to_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(command: CommandContext) -> object:
        raise ValueError("bad luck")

    run = Run(handler)
    assert await run.ended() == ("FAILED", "handler_error")
    assert run.results[0].reason.message == "ValueError: bad luck"
    assert "Traceback" in caplog.text


class Exits(dict[str, object]):
    def items(self) -> NoReturn:
        sys.exit(9)


class WithoutCode(CommandFailed):
    def __init__(self) -> None:
        """Does not call the one it overrides."""


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (lambda: CommandFailed("no_disk", exit_code=cast(int, "1")), "CommandFailed, which cannot be reported: TypeE"),
        (lambda: CommandFailed("no_disk", exit_code=0xC0000005), "CommandFailed, which cannot be reported: ValueErr"),
        (lambda: CommandFailed("no_disk", cast(str, b"full")), "CommandFailed, which cannot be reported: AttributeE"),
        (lambda: CommandFailed("no_disk", data=Exits(a=1)), "CommandFailed, which cannot be reported: SystemExit: 9"),
        (lambda: CommandFailed("no_disk", transient=cast(bool, [])), "CommandFailed, which cannot be reported: TypeE"),
        (WithoutCode, "WithoutCode, which cannot be reported: AttributeError: "),
    ],
    ids=["exit code type", "exit code range", "message", "data", "transient", "subclass"],
)
async def test_a_failure_that_cannot_be_reported_fails_the_command_all_the_same(
    caplog: pytest.LogCaptureFixture, error: Callable[[], CommandFailed], why: str
) -> None:
    async def handler(command: CommandContext) -> object:
        raise error()

    run = Run(handler)
    assert await asyncio.wait_for(run.ended(), PATIENCE_SECONDS) == ("FAILED", "handler_error")
    assert run.results[0].reason.message.startswith(f"the handler raised {why}")
    assert not run.results[0].HasField("data")
    assert "Traceback" in caplog.text


async def test_a_run_past_its_time_limit_is_a_timeout() -> None:
    async def handler(command: CommandContext) -> object:
        await asyncio.Event().wait()
        return None

    assert await Run(handler, time_limit=0.01).ended() == ("TIMEOUT", "time_limit")


async def test_cancelled_only_once_the_handler_has_really_ended() -> None:
    stubborn, release = asyncio.Event(), asyncio.Event()

    async def handler(command: CommandContext) -> object:
        stubborn.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        return "ignored"

    run = Run(handler)
    await stubborn.wait()
    run.run.stop(StopCause.CANCELLED)
    run.run.stop(StopCause.TIME_LIMIT)
    await asyncio.sleep(0)
    assert run.results == []
    release.set()
    assert await run.ended() == ("CANCELLED", "cancelled")


async def test_a_command_stopped_before_its_first_step_never_calls_the_handler() -> None:
    called = []

    async def handler(command: CommandContext) -> object:
        called.append(command)
        return None

    run = Run(handler)
    run.run.stop(StopCause.CANCELLED)
    assert await run.ended() == ("CANCELLED", "cancelled")
    assert called == []


async def test_a_cancellation_from_inside_the_handler_is_a_failure() -> None:
    async def handler(command: CommandContext) -> object:
        raise asyncio.CancelledError

    assert await Run(handler).ended() == ("FAILED", "handler_error")


async def test_an_exception_while_being_stopped_does_not_change_the_outcome(caplog: pytest.LogCaptureFixture) -> None:
    entered = asyncio.Event()

    async def handler(command: CommandContext) -> object:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken clean-up")

    run = Run(handler)
    await entered.wait()
    run.run.stop(StopCause.AGENT_STOPPED)
    assert await run.ended() == ("CANCELLED", "agent_stopped")
    assert "broken clean-up" in caplog.text


async def test_output_waits_for_room_and_goes_on_when_acknowledged() -> None:
    session = CurrentSession()
    data = bytes(range(256)) * 2_048  # 512 KiB, the limit is 256 KiB

    async def handler(command: CommandContext) -> object:
        await command.output(data)
        return None

    run = Run(handler, session=session)
    for _ in range(10):
        await asyncio.sleep(0)
    assert run.results == []
    assert run.held.window.written == session.output_limit
    run.held.window.acknowledge(session.output_limit)
    run.context.notify_room()
    assert await run.ended() == ("COMPLETED", "")
    assert run.results[0].output_bytes == len(data)


async def test_text_goes_as_utf8_and_streams_are_kept_apart() -> None:
    async def handler(command: CommandContext) -> object:
        await command.output("é")
        await command.output(b"\xff", "stderr")
        await command.output("")
        return None

    run = Run(handler)
    await run.run.ended()
    chunks = [run.held.window.take(100), run.held.window.take(100), run.held.window.take(100)]
    assert [(chunk.stream, chunk.data) for chunk in chunks if chunk] == [
        (command_pb2.OUTPUT_STREAM_STDOUT, "é".encode()),
        (command_pb2.OUTPUT_STREAM_STDERR, b"\xff"),
    ]


async def test_an_ended_command_takes_no_output() -> None:
    async def handler(command: CommandContext) -> object:
        return None

    run = Run(handler)
    await run.run.ended()
    with pytest.raises(RuntimeError, match="has ended"):
        await run.context.output("late")


async def test_the_context_tells_of_the_command() -> None:
    held = RecordedCommand("a", "lease")
    given = assignment("a", "GREET", attempt=3, time_limit=1.5, name="Ada", times=2)
    context = CommandContext(given, held.window, CurrentSession())
    assert (context.command_id, context.type, context.attempt, context.time_limit) == ("a", "GREET", 3, 1.5)
    assert context.params == {"name": "Ada", "times": 2}


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("base")],
    ids=lambda e: type(e).__name__,
)
async def test_what_would_end_a_process_ends_the_command(error: BaseException) -> None:
    async def handler(command: CommandContext) -> object:
        raise error

    run = Run(handler)
    assert await run.ended() == ("FAILED", "handler_error")
    assert run.results[0].reason.message.startswith(type(error).__name__)


async def test_an_error_that_cannot_be_shown_is_still_a_failure() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit

    async def handler(command: CommandContext) -> object:
        raise Hostile

    run = Run(handler)
    assert await run.ended() == ("FAILED", "handler_error")
    assert run.results[0].reason.message == "Hostile: (its message cannot be read)"


async def test_a_handler_that_swallows_its_cancel_fails_after_the_grace_and_is_released_when_it_ends() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(command: CommandContext) -> object:
        entered.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        return "late"

    run = Run(handler, stop_grace=0.01)
    await entered.wait()
    run.run.stop(StopCause.TIME_LIMIT)
    assert await run.ended() == ("FAILED", "would_not_stop")
    assert "(time_limit); it may still be running" in run.results[0].reason.message
    assert run.run.abandoned
    assert not run.run.blocks_its_loop
    with pytest.raises(RuntimeError, match="has ended"):
        await run.context.output("late")
    release.set()
    await run.released.wait()
    assert len(run.results) == 1


@pytest.mark.parametrize(
    ("cause", "stopped", "after", "ends_as"),
    [
        (StopCause.CANCELLED, False, False, ("COMPLETED", "")),
        (StopCause.CANCELLED, False, True, ("COMPLETED", "")),  # it never noticed the request
        (StopCause.CANCELLED, True, True, ("CANCELLED", "cancelled")),
        (StopCause.CANCELLED, True, False, ("COMPLETED", "")),  # its work was done, the report was interrupted
        (StopCause.AGENT_STOPPED, False, True, ("COMPLETED", "")),
        (StopCause.TIME_LIMIT, False, False, ("COMPLETED", "")),
        (StopCause.TIME_LIMIT, False, True, ("TIMEOUT", "time_limit")),
        (StopCause.IDLE_LIMIT, True, True, ("TIMEOUT", "idle_limit")),
        (StopCause.ORPHANED, True, True, ("TIMEOUT", "orphaned")),
    ],
)
async def test_who_was_first_decides_between_a_result_and_a_request_to_stop(
    cause: StopCause, stopped: bool, after: bool, ends_as: tuple[str, str]
) -> None:
    async def handler(command: CommandContext) -> object:
        await asyncio.Event().wait()
        return None

    run = Run(handler)
    before = time.monotonic()
    run.run.stop(cause)
    run.run._done(HandlerEnding(results.completed(run.held, 1, 1_000), stopped, time.monotonic() if after else before))
    assert await run.ended() == ends_as


async def test_a_handler_whose_work_was_done_keeps_its_outcome() -> None:
    reporting = asyncio.Event()

    async def handler(command: CommandContext) -> object:
        command.finished()
        with contextlib.suppress(asyncio.CancelledError):
            reporting.set()
            await asyncio.Event().wait()
        return "done"

    run = Run(handler)
    await reporting.wait()
    run.run.stop(StopCause.CANCELLED)
    assert await run.ended() == ("COMPLETED", "")


async def test_silence_beyond_the_idle_limit_is_a_timeout() -> None:
    async def handler(command: CommandContext) -> object:
        await asyncio.Event().wait()
        return None

    began = time.monotonic()
    assert await Run(handler, idle_limit=0.2).ended() == ("TIMEOUT", "idle_limit")
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("sign", ["output", "progress"])
async def test_output_and_progress_are_signs_of_life(sign: str) -> None:
    async def handler(command: CommandContext) -> object:
        for _ in range(10):
            await asyncio.sleep(0.05)
            if sign == "output":
                await command.output(b".")
            else:
                command.progress()
        return None

    assert await Run(handler, idle_limit=0.4).ended() == ("COMPLETED", "")


async def test_a_handler_whose_output_waits_for_room_is_not_silent() -> None:
    session = CurrentSession()

    async def handler(command: CommandContext) -> object:
        await command.output(b"x" * (session.output_limit + 1))
        return None

    run = Run(handler, session=session, idle_limit=1.0)
    await asyncio.sleep(1.2)
    assert run.results == []
    run.held.window.acknowledge(session.output_limit)
    run.context.notify_room()
    assert await run.ended() == ("COMPLETED", "")


async def test_an_extended_run_goes_on_past_its_first_limit_and_ends_at_the_new_one() -> None:
    entered = asyncio.Event()

    async def handler(command: CommandContext) -> object:
        entered.set()
        await asyncio.Event().wait()
        return None

    run = Run(handler, time_limit=0.1)
    await entered.wait()
    began = time.monotonic()
    run.context.extend(0.3)
    (limit,) = run.extensions
    assert run.context.time_limit == limit
    assert run.run.extend(limit)
    assert run.held.extended_limit == limit
    assert await run.ended() == ("TIMEOUT", "time_limit")
    assert time.monotonic() - began >= 0.3
    assert not run.run.extend(60.0)


async def test_an_extension_never_shortens_and_has_a_bound() -> None:
    async def handler(command: CommandContext) -> object:
        command.extend(1.0)
        command.extend(1e9)
        return None

    run = Run(handler, time_limit=60.0)
    await run.ended()
    assert run.extensions == [30 * 86_400]
    with pytest.raises(ValueError, match="more than 0 seconds"):
        run.context.extend(0)


async def test_a_run_without_a_time_limit_stays_without_one() -> None:
    async def handler(command: CommandContext) -> object:
        command.extend(1.0)
        return None

    run = Run(handler)
    await run.ended()
    assert (run.extensions, run.context.time_limit) == ([], None)


async def test_a_cancelled_handler_that_does_not_stop_runs_until_it_does() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(command: CommandContext) -> object:
        entered.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        return "late"

    run = Run(handler, stop_grace=0.01)
    await entered.wait()
    run.run.stop(StopCause.CANCELLED)
    await run.overdue.wait()
    assert run.results == []
    (survivor,) = run.run.survivors
    assert (survivor.pid, survivor.name) == (os.getpid(), "PING handler on the agent's event loop")
    run.overdue.clear()
    run.run.stop(StopCause.CANCELLED)
    assert run.overdue.is_set(), "a repeated cancel is answered again"
    release.set()
    assert await run.ended() == ("CANCELLED", "cancelled")
    assert not run.run.abandoned


async def test_a_handler_of_a_given_up_command_runs_until_it_ends() -> None:
    """Its failure would not be reported: the server would be told that nothing of the command runs."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(command: CommandContext) -> object:
        entered.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        return "late"

    run = Run(handler, stop_grace=0.01)
    await entered.wait()
    run.run.stop(StopCause.DISOWNED)
    await run.overdue.wait()
    run.overdue.clear()
    run.run.stop(StopCause.ORPHANED)
    assert not run.overdue.is_set()
    run.run.stop(StopCause.CANCELLED)
    assert run.overdue.is_set(), "a cancel is answered"
    assert not run.run.abandoned
    release.set()
    await run.ended()


async def test_an_overdue_handler_is_abandoned_when_the_agent_leaves() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def handler(command: CommandContext) -> object:
        entered.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        return "late"

    run = Run(handler, stop_grace=0.01)
    await entered.wait()
    run.run.stop(StopCause.CANCELLED)
    await run.overdue.wait()
    run.run.stop(StopCause.AGENT_STOPPED)
    assert await run.ended() == ("FAILED", "would_not_stop")
    assert [survivor.pid for survivor in run.results[0].survivors] == [os.getpid()]
    release.set()
    await run.released.wait()
