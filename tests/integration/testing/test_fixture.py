"""`distributor.testing`, in pytest runs of authors of handlers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distributor import testing
from distributor.errors import Unavailable
from tests.support.inner_pytest import WITHOUT_ASYNCIO, examples_of, run_pytest

MORE = """
import pytest

from distributor.errors import DistributorError


def nothing(command):
    return None


def broken(command):
    raise KeyError("oops")


def flaky(failures=[]):
    from distributor.agent import CommandFailed

    def handler(command):
        failures.append(1)
        if len(failures) < 2:
            raise CommandFailed("not_yet", transient=True)
        return len(failures)

    return handler


def test_agents_have_ids_of_their_own(distributor_agent):
    first, second = distributor_agent({"A": nothing}), distributor_agent({"B": nothing})
    assert first.agent_id != second.agent_id
    assert first.run("A").status == second.run("B").status == "completed"


def test_a_type_without_a_handler_is_refused(distributor_agent):
    with pytest.raises(DistributorError, match="OTHER"):
        distributor_agent({"A": nothing}).run("OTHER")


def test_an_exception_fails_the_command(distributor_agent):
    outcome = distributor_agent({"BROKEN": broken}).run("BROKEN")
    assert (outcome.status, outcome.reason.code) == ("failed", "handler_error")
    assert "oops" in outcome.reason.message


def test_a_transient_failure_runs_again(distributor_agent):
    assert distributor_agent({"FLAKY": flaky()}).run("FLAKY", max_runs=2).data == 2


@pytest.mark.parametrize(("permitted", "runs"), [({"unlucky": 3}, 3), ({"other": 3}, 1), ({}, 1)])
def test_a_failure_runs_again_as_often_as_its_reason_permits(distributor_agent, permitted, runs):
    from distributor.agent import CommandFailed

    calls = []

    async def unlucky(context):
        calls.append(context.attempt)
        raise CommandFailed("unlucky", "as ever")

    outcome = distributor_agent({"UNLUCKY": unlucky}).run("UNLUCKY", max_runs_by_reason=permitted)
    assert (outcome.status, outcome.reason.code, len(calls)) == ("failed", "unlucky", runs)


def test_a_wait_ends_in_time(distributor_agent):
    running = distributor_agent({"A": lambda command: command.sleep(600)}).start("A")
    with pytest.raises(TimeoutError):
        running.wait(timeout=0.1)
    running.cancel()
    assert running.wait().status == "cancelled"


def test_a_command_that_ends_without_the_output(distributor_agent):
    with pytest.raises(TimeoutError, match="without printing 'x'; it printed b''"):
        distributor_agent({"A": nothing}).start("A").wait_for_output("x")
"""

ASYNC = """
import asyncio


async def answer(command):
    return 42


async def test_the_loop_of_the_test_goes_on(distributor_agent):
    ticked = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, ticked.set)
    running = distributor_agent({"ANSWER": answer}).start("ANSWER")
    outcome, _ = await asyncio.gather(running.wait_async(), ticked.wait())
    assert outcome.data == 42
"""


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    assert "\n5 passed" in run_pytest(tmp_path, examples_of("Testing handlers"), *WITHOUT_ASYNCIO)


def test_what_handlers_and_authors_do_wrong_is_reported(tmp_path: Path) -> None:
    assert "\n9 passed" in run_pytest(tmp_path, MORE, *WITHOUT_ASYNCIO)


def test_coroutine_tests_use_it_too(tmp_path: Path) -> None:
    loop = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    assert "\n1 passed" in run_pytest(tmp_path, ASYNC, *loop)


def test_a_run_without_it_imports_nothing_slow() -> None:
    code = "import sys, distributor.testing.pytest_plugin; print({'grpc', 'pydantic', 'valkey'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ("-c", "import sys; sys.exit('there is no valkey-server')")
    monkeypatch.setattr("distributor.testing.server.PROGRAM", program)
    for _ in range(2):
        with pytest.raises(Unavailable, match="there is no valkey-server"), testing.local_server():
            pass
