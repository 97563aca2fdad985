from __future__ import annotations

import pytest

from distributor.model.position import BEGINNING, is_position, milliseconds_of, order_of


@pytest.mark.parametrize("text", ["0-0", "1761000000005-12", "9" * 20 + "-" + "9" * 20])
def test_positions(text: str) -> None:
    assert is_position(text)


@pytest.mark.parametrize("text", ["", "0", "-", "0-", "-0", "1-2-3", "a-0", "1-0\n", "١-٠", "9" * 21 + "-0", "$"])
def test_what_is_no_position(text: str) -> None:
    assert not is_position(text)


def test_they_are_ordered_by_time_and_then_by_number() -> None:
    positions = ["10-2", "9-11", "10-10", BEGINNING, "9-2"]
    assert sorted(positions, key=order_of) == [BEGINNING, "9-2", "9-11", "10-2", "10-10"]


def test_when_it_was() -> None:
    assert milliseconds_of("1761000000005-12") == 1_761_000_000_005
