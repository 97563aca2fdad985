from __future__ import annotations

import pytest

from distributor.model.event import AgentChanged, CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.store.event_entries import EventEntries
from tests.support.own_logs import own_logs

ROW = b"agent123\tPING\t50\tassigned\t1\t17\t18\t\t\t\t\t\t2\ttrue\t\t"
GOOD = [b"c1", b"assigned\t" + ROW]

MAKES_NO_SENSE = [
    b"",
    b"garbage",
    b"assigned",
    b"assigned\tagent123",
    b"assigned\t" + ROW.replace(b"50", b"high"),
    b"assigned\t" + ROW.replace(b"assigned", b"lost"),
    b"assigned\t" + ROW.replace(b"17", b"1e3"),
    b"assigned\t" + ROW.replace(b"17", b"9" * 5_000),
    b"output\tagent123",
    b"output\tagent123\tmuch",
    b"agent\t1",
    b"agent\t1\tperhaps",
    b"\xff\xfe",
]


@pytest.mark.parametrize("line", MAKES_NO_SENSE)
def test_a_line_that_makes_no_sense_is_left_out_and_the_others_stay(line: bytes) -> None:
    entries = EventEntries()
    with own_logs() as logs:
        batch = [entries.batch(b"%d-0" % n, [b"origin", b"r1", *GOOD, b"c2", line]) for n in (1, 2)]
    assert [(one.position, len(one.records) <= 1) for one in batch] == [("1-0", True), ("2-0", True)]
    (told,) = logs
    assert (told["log_level"], told["first"]) == ("warning", "1-0")
    if line.isascii():
        (event,) = (record.event() for record in batch[0].records)
        assert isinstance(event, CommandChanged)
        assert (event.kind, event.state.status) == (EventKind.ASSIGNED, CommandStatus.ASSIGNED)


def test_what_a_later_version_tells_is_left_out_without_a_word() -> None:
    with own_logs() as logs:
        batch = EventEntries().batch(b"1-0", [b"origin", b"r1", b"c1", b"paused\tagent123", b"a", b"agent\t1\t0"])
    assert [record.event() for record in batch.records] == [AgentChanged("1-0", "a", 1, connected=False)]
    assert logs == []


def test_an_entry_that_is_not_ours_tells_nothing() -> None:
    with own_logs() as logs:
        batch = EventEntries().batch(b"1-0", [b"temperature", b"21"])
    assert (batch.position, list(batch.records), len(logs)) == ("1-0", [], 1)
