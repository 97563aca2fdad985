from __future__ import annotations

import pytest

from distributor.agent.record import REMEMBERED, CommandRecord
from distributor.v1 import agent_gateway_pb2 as gateway


def ended(record: CommandRecord, command_id: str, *, transient: bool = False, stored: bool = True) -> None:
    record.start(command_id, "lease")
    record.finish(gateway.Result(command_id=command_id, transient=transient))
    record.acknowledge(command_id, stored)


def test_a_command_is_held_until_its_result_is_acknowledged() -> None:
    record = CommandRecord()
    held = record.start("a", "lease")
    assert (record.running, record.unacknowledged, held.running) == (1, 0, True)
    record.finish(gateway.Result(command_id="a"))
    assert (record.running, record.unacknowledged, held.running) == (0, 1, False)
    record.acknowledge("a", stored=True)
    assert record.empty
    assert record.get("a") is None


def test_an_acknowledgement_of_something_running_or_unknown_changes_nothing() -> None:
    record = CommandRecord()
    record.start("a", "lease")
    record.acknowledge("a", stored=True)
    record.acknowledge("b", stored=True)
    assert record.running == 1


@pytest.mark.parametrize(
    ("transient", "stored", "again"),
    [(False, True, False), (False, False, False), (True, False, False), (True, True, True)],
)
def test_only_a_stored_transient_failure_may_be_started_again(transient: bool, stored: bool, again: bool) -> None:
    record = CommandRecord()
    assert not record.was_started("a")
    ended(record, "a", transient=transient, stored=stored)
    assert record.was_started("a") is not again


def test_a_command_that_runs_or_waits_for_its_acknowledgement_was_started() -> None:
    record = CommandRecord()
    record.start("a", "lease")
    assert record.was_started("a")
    record.finish(gateway.Result(command_id="a", transient=True))
    assert record.was_started("a")


def test_a_second_run_counts_by_itself() -> None:
    record = CommandRecord()
    ended(record, "a", transient=True)
    ended(record, "a")
    assert record.was_started("a")


def test_a_disowned_command_is_forgotten_when_it_ends() -> None:
    record = CommandRecord()
    record.start("a", "lease").disowned = True
    record.finish(gateway.Result(command_id="a"))
    assert record.empty
    assert record.was_started("a")


def test_the_oldest_ids_are_forgotten_first() -> None:
    record = CommandRecord()
    for number in range(REMEMBERED + 1):
        ended(record, str(number))
    assert not record.was_started("0")
    assert record.was_started("1")
    assert record.was_started(str(REMEMBERED))


def test_only_entries_with_a_result_change_when_the_oldest_results_are_forgotten() -> None:
    record = CommandRecord(durable=True, remembered_bytes=10)
    for number in range(100):
        ended(record, f"small{number}")
    record.unwritten.take()
    record.unwritten.succeeded()
    ended(record, "large")
    assert record.unwritten.take() == ["large"]
