from __future__ import annotations

import pytest

from distributor.client import CommandRequest
from distributor.client.translation import wire_request
from distributor.errors import InvalidArgument


def test_params_that_are_not_json_are_the_callers_fault() -> None:
    request = CommandRequest("a1", "PING", {"list": [1, float("nan")]})
    with pytest.raises(InvalidArgument, match=r"^command\.params\.list\[1\] is nan") as caught:
        wire_request(request, "key")
    assert (caught.value.reason, caught.value.field) == ("INVALID_PARAMS", "command.params.list[1]")


@pytest.mark.parametrize("slots", [0, -1, 1_001, 2**40])
def test_slots_out_of_range_are_not_taken_for_the_default(slots: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^command\.slots must be 1 to 1,000, not ") as caught:
        wire_request(CommandRequest("a1", "PING", slots=slots), "key")
    assert (caught.value.reason, caught.value.field) == ("SLOTS_OUT_OF_RANGE", "command.slots")


@pytest.mark.parametrize("max_runs", [0, -1, 101, 2**40])
def test_a_number_of_runs_out_of_range_is_not_taken_for_the_default(max_runs: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^command\.max_runs must be 1 to 100, not ") as caught:
        wire_request(CommandRequest("a1", "PING", max_runs=max_runs), "key")
    assert (caught.value.reason, caught.value.field) == ("MAX_RUNS_OUT_OF_RANGE", "command.max_runs")


def test_what_fits_into_no_message_is_told_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArgument) as caught:
        wire_request(CommandRequest("a1", "PING", {"text": "x" * 9_000_000}), "key")
    assert str(caught.value) == (
        "command.params is 9,000,021 bytes, the limit is 8,388,608 for a whole message "
        "(servers accept 262,144 by default, see max_params_bytes)"
    )
    assert (caught.value.reason, caught.value.field) == ("PARAMS_TOO_LARGE", "command.params")
