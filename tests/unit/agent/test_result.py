from __future__ import annotations

import pytest

from distributor.agent import result as results
from distributor.agent.actions import StopCause
from distributor.agent.command_context import CommandFailed, Completed
from distributor.agent.record import RecordedCommand
from distributor.v1 import command_pb2

HELD = RecordedCommand("a", "lease")
COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
FAILED = command_pb2.COMMAND_STATUS_FAILED
LIMIT = 100


@pytest.mark.parametrize(("code", "transient"), [("flaky", True), ("other", False)])
def test_a_failure_with_a_reason_that_the_command_names_is_transient(code: str, transient: bool) -> None:
    held = RecordedCommand("a", "lease", rerun_reasons=frozenset({"flaky"}))
    assert results.failed(held, CommandFailed(code, ""), LIMIT).transient is transient
    assert results.failed(held, CommandFailed(code, "", transient=True), LIMIT).transient


def test_a_plain_value_is_the_data() -> None:
    result = results.completed(HELD, {"a": 1}, LIMIT)
    assert (result.command_id, result.lease_id, result.status) == ("a", "lease", COMPLETED)
    assert result.data.struct_value.fields["a"].number_value == 1
    assert not result.HasField("exit_code")
    assert not result.HasField("reason")


def test_no_value_is_no_data() -> None:
    assert not results.completed(HELD, None, LIMIT).HasField("data")


def test_completed_gives_an_exit_code() -> None:
    result = results.completed(HELD, Completed([1], exit_code=0), LIMIT)
    assert result.HasField("exit_code")
    assert result.exit_code == 0


def test_a_failure_in_the_handlers_own_words() -> None:
    error = CommandFailed("no_disk", "the disk is full", exit_code=9, data={"free": 0}, transient=True)
    result = results.failed(HELD, error, LIMIT)
    assert (result.status, result.reason.code, result.reason.message) == (FAILED, "no_disk", "the disk is full")
    assert (result.exit_code, result.transient) == (9, True)
    assert result.data.struct_value.fields["free"].number_value == 0


def test_any_other_exception_is_told_by_type_and_text() -> None:
    result = results.failed(HELD, KeyError("x"), LIMIT)
    assert (result.reason.code, result.reason.message, result.transient) == ("handler_error", "KeyError: 'x'", False)


def test_an_exception_without_text_is_named_by_its_type() -> None:
    assert results.failed(HELD, KeyboardInterrupt(), LIMIT).reason.message == "KeyboardInterrupt"


def test_texts_are_cut_and_mended() -> None:
    result = results.failed(HELD, ValueError("\udcff" + "x" * 5_000), LIMIT)
    assert result.reason.message.startswith("ValueError: ?xx")
    assert len(result.reason.message) == 1_024


@pytest.mark.parametrize(
    ("value", "code"),
    [("x" * LIMIT, "result_too_large"), (object(), "invalid_result"), ([[10**400]], "invalid_result")],
)
def test_a_value_that_does_not_fit_fails_the_command(value: object, code: str) -> None:
    result = results.completed(HELD, value, 1_000 if code == "invalid_result" else LIMIT)
    assert (result.status, result.reason.code) == (FAILED, code)
    assert not result.HasField("data")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [{1}]}, "the handler's value.a[0] is a set, which is not JSON"),
        ({1: "a"}, "the handler's value has a name of type int, names must be text"),
        ("\ud800", "the handler's value is not valid Unicode text"),
    ],
)
def test_a_value_that_is_not_json_is_told_with_its_place(value: object, message: str) -> None:
    result = results.completed(HELD, value, LIMIT)
    assert (result.reason.code, result.reason.message) == ("invalid_result", message)


@pytest.mark.parametrize(
    ("cause", "status", "code"),
    [
        (StopCause.CANCELLED, command_pb2.COMMAND_STATUS_CANCELLED, "cancelled"),
        (StopCause.AGENT_STOPPED, command_pb2.COMMAND_STATUS_CANCELLED, "agent_stopped"),
        (StopCause.TIME_LIMIT, command_pb2.COMMAND_STATUS_TIMEOUT, "time_limit"),
    ],
)
def test_how_a_stopped_command_ends(cause: StopCause, status: int, code: str) -> None:
    result = results.stopped(HELD, cause)
    assert (result.status, result.reason.code) == (status, code)


@pytest.mark.parametrize("code", ["", "Upper", "with space", "x" * 65])
def test_reason_codes_are_spelt_one_way(code: str) -> None:
    with pytest.raises(ValueError, match="must be lower_snake_case"):
        CommandFailed(code, "…")
