from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.command import check_command_id
from distributor.model.ids import RANDOM_BITS, CommandIdMint

NOW = 1_772_366_400_125
TIMES = st.integers(0, 2**48 - 1_000)
RANDOM = st.integers(0, 2**80)


@given(st.lists(st.tuples(TIMES, RANDOM), min_size=1, max_size=50))
def test_ids_are_uuids_of_version_7_that_sort_as_minted(times: list[tuple[int, int]]) -> None:
    """Also when the clock stands still or goes back, and whatever the random bits are."""
    mint = CommandIdMint()
    ids = [mint.mint(now_ms, random) for now_ms, random in times]
    assert ids == sorted(set(ids))
    for command_id in ids:
        check_command_id(command_id)
        parsed = uuid.UUID(command_id)
        assert str(parsed) == command_id
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_it_tells_the_time_it_was_minted() -> None:
    command_id = CommandIdMint().mint(NOW, 0)
    assert int(command_id.replace("-", "")[:12], 16) == NOW


def test_the_random_bits_are_all_used_and_no_more() -> None:
    assert CommandIdMint().mint(NOW, 2**RANDOM_BITS - 1)[19:] == "bfff-fffffffff000"
    assert CommandIdMint().mint(NOW, 2**RANDOM_BITS) == CommandIdMint().mint(NOW, 0)


def test_an_id_begins_with_the_tag_of_its_shard_and_ends_with_the_bucket_of_its_agent() -> None:
    command_id = CommandIdMint().mint(NOW, 2**RANDOM_BITS - 1, 0x07F, "{2a0}")
    check_command_id(command_id)
    assert command_id.startswith("{2a0}01")
    assert command_id.endswith("fff07f")


def test_more_ids_in_a_millisecond_than_its_counter_has_room_for() -> None:
    mint = CommandIdMint()
    ids = [mint.mint(NOW, 0) for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert mint.mint(NOW + 1_000, 0) > ids[-1]


@pytest.mark.parametrize("step", [-1, -1_000_000])
def test_a_clock_that_goes_back(step: int) -> None:
    mint = CommandIdMint()
    assert mint.mint(NOW, 5) < mint.mint(NOW + step, 0)
