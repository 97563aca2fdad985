from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from bench.peers.turns import COMMANDS_PER_SECOND, CPU_BY_OTHERS, P50_MS, P99_MS, order, take_turns
from bench.peers.work import Shape, Times, Work


class Recorder:
    """A contender that notes its turns in a list it shares with others."""

    def __init__(self, name: str, seen: list[tuple[str, Work]]) -> None:
        self.name = name
        self._seen = seen

    @property
    def pids(self) -> Mapping[str, int]:
        """This process."""
        return {"caller": os.getpid()}

    async def take_turn(self, work: Work) -> Times:
        """Take two seconds, or a millisecond more for each command."""
        self._seen.append((self.name, work))
        return Times(2.0, [float(number) for number in range(1, work.commands + 1)])


@pytest.mark.parametrize(("number", "expected"), [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc")])
def test_each_round_begins_with_the_next_contender(number: int, expected: str) -> None:
    seen: list[tuple[str, Work]] = []
    contenders = [Recorder(name, seen) for name in "abc"]
    assert "".join(one.name for one in order(contenders, number)) == expected


async def test_all_warm_up_then_all_take_a_turn_in_each_round() -> None:
    seen: list[tuple[str, Work]] = []
    work = Work(Shape.BATCHED, commands=1_000, batch=100, calls=2, outstanding=400)
    turns = await take_turns([Recorder("a", seen), Recorder("b", seen)], [work], rounds=2)
    assert [(name, one.commands) for name, one in seen[:2]] == [("a", 200), ("b", 200)]
    assert seen[2:] == [("a", work), ("b", work), ("b", work), ("a", work)]
    assert [(turn.contender, turn.round) for turn in turns] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert {turn.figures[COMMANDS_PER_SECOND] for turn in turns} == {500.0}
    assert all(turn.figures["caller"] >= 0 and turn.figures[CPU_BY_OTHERS] >= 0 for turn in turns)


async def test_one_at_a_time_the_figures_are_percentiles() -> None:
    (turn,) = await take_turns([Recorder("a", [])], [Work(Shape.IDLE, 100)], rounds=1)
    assert (turn.figures[P50_MS], turn.figures[P99_MS]) == (51.0, 100.0)
    assert COMMANDS_PER_SECOND not in turn.figures
