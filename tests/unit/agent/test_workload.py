"""Starting commands: one that cannot be started fails, and the others run."""

from __future__ import annotations

import threading

import pytest

from distributor.agent.actions import StopCause
from distributor.agent.command_context import AnyHandler, BlockingContext, CommandContext
from distributor.agent.current_session import CurrentSession
from distributor.agent.record import CommandRecord
from distributor.agent.workload import HandlerTable, Workload
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import assignment
from tests.support.waiting import until


def plain(context: BlockingContext) -> None:
    pass


async def coroutine(context: CommandContext) -> None:
    pass


@pytest.mark.parametrize("handler", [plain, coroutine])
async def test_a_command_whose_handler_gets_no_thread_fails_and_the_next_runs(
    monkeypatch: pytest.MonkeyPatch, handler: AnyHandler
) -> None:
    session, record = CurrentSession(), CommandRecord()
    session.open()
    workload = Workload(HandlerTable({"SLOW": handler}), record, session)
    start, refused = threading.Thread.start, list[str]()

    def start_but_the_first(thread: threading.Thread) -> None:
        if thread.name.startswith("agent") and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_but_the_first)
    for command_id in ("a", "b"):
        record.start(command_id, "lease")
        workload.start(assignment(command_id, "SLOW"))
    await until(lambda: not record.running)
    failed, completed = (held.result for held in record.held)
    assert failed
    assert completed
    assert (failed.status, failed.reason.code, failed.transient) == (
        command_pb2.COMMAND_STATUS_FAILED,
        "not_started",
        True,
    )
    assert "can't start new thread" in failed.reason.message
    assert completed.status == command_pb2.COMMAND_STATUS_COMPLETED
    await workload.close()


async def test_a_thread_that_stops_as_it_should_is_not_logged_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    running = threading.Event()

    def handler(command: BlockingContext) -> None:
        running.set()
        command.sleep(3_600)

    session, record = CurrentSession(), CommandRecord()
    session.open()
    workload = Workload(HandlerTable({"SLOW": handler}), record, session)
    record.start("a", "lease")
    workload.start(assignment("a", "SLOW"))
    await until(running.is_set)
    workload.stop("a", StopCause.CANCELLED)
    await until(lambda: not record.running)
    (held,) = record.held
    assert held.result
    assert held.result.status == command_pb2.COMMAND_STATUS_CANCELLED
    assert "failed" not in caplog.text
    await workload.close()
