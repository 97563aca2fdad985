"""Which output of an attempt a session accepts."""

from __future__ import annotations

import pytest

from distributor.model.output_flow import OutputFlow
from distributor.model.protocol_violation import ProtocolViolation

LIMIT = 2**53
WINDOW = 10


def refused(flow: OutputFlow, offset: int, size: int = 1) -> str:
    """The field that a refused piece violates; the flow stays as it is."""
    before = (flow.received, flow.acknowledged)
    with pytest.raises(ProtocolViolation) as caught:
        flow.receive(offset, size, WINDOW)
    assert (flow.received, flow.acknowledged) == before
    return caught.value.field


def test_output_follows_on_or_is_repeated() -> None:
    flow = OutputFlow()
    for offset, size, received in [(0, 4, 4), (4, 1, 5), (0, 5, 5), (3, 4, 7), (2, 1, 7)]:
        flow.receive(offset, size, WINDOW)
        assert flow.received == received


@pytest.mark.parametrize("offset", [5, 6, LIMIT - 1])
def test_there_is_no_gap(offset: int) -> None:
    flow = OutputFlow()
    assert refused(flow, offset) == "output.offset"
    flow.receive(0, 4, WINDOW)
    assert refused(flow, offset) == "output.offset"


def test_the_window_counts_what_is_not_acknowledged() -> None:
    flow = OutputFlow()
    flow.receive(0, WINDOW, WINDOW)
    assert refused(flow, WINDOW) == "output"
    flow.receive(0, WINDOW, WINDOW)
    flow.acknowledge(3)
    flow.receive(WINDOW, 3, WINDOW)
    assert refused(flow, WINDOW + 3) == "output"


def test_an_acknowledgement_neither_goes_back_nor_ahead_of_what_was_received() -> None:
    flow = OutputFlow()
    flow.receive(0, 8, WINDOW)
    for offset, acknowledged in [(5, 5), (3, 5), (LIMIT, 8), (0, 8)]:
        flow.acknowledge(offset)
        assert flow.acknowledged == acknowledged


@pytest.mark.parametrize("offset", [0, 4, 5, 7])
def test_the_first_output_of_a_held_command_may_start_where_it_was_discarded(offset: int) -> None:
    flow = OutputFlow(stored=4, produced=7)
    flow.receive(offset, 2, WINDOW)
    assert (flow.received, flow.acknowledged) == (max(4, offset + 2), max(4, offset))
    assert refused(flow, flow.received + 1) == "output.offset"


@pytest.mark.parametrize(("stored", "produced", "offset"), [(4, 7, 8), (4, 0, 5), (0, 0, 1)])
def test_but_not_beyond_what_there_was(stored: int, produced: int, offset: int) -> None:
    assert refused(OutputFlow(stored, produced), offset) == "output.offset"


def test_what_was_stored_before_needs_no_room_in_the_window() -> None:
    flow = OutputFlow(stored=1_000, produced=1_000 + WINDOW)
    flow.receive(1_000, WINDOW, WINDOW)
    assert refused(flow, 1_000 + WINDOW) == "output"


def test_offsets_are_exact_to_the_limit() -> None:
    flow = OutputFlow(stored=LIMIT - 3, produced=LIMIT)
    flow.receive(LIMIT - 2, 2, WINDOW)
    assert (flow.received, flow.acknowledged) == (LIMIT, LIMIT - 2)
