from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.findings import Finding
from bench.peers.comparison import RIVALS, Comparison
from bench.peers.table import ROLES, WIDTH, lines, missing_features, peer_lines, shown
from bench.peers.turns import COMMANDS_PER_SECOND, CPU_BY_OTHERS, P50_MS, P99_MS, Turn
from bench.peers.work import Shape

OWN = "distributor"
BEST = "batched: distributor / best of JetStream and BullMQ"


def compared(**speeds: Sequence[float]) -> Comparison:
    """A comparison in which a contender has one speed per round, in all shapes; latencies are a thousandth of it."""
    turns = [
        Turn(name, shape, number, figures(shape, speed))
        for name, rounds in speeds.items()
        for number, speed in enumerate(rounds)
        for shape in Shape
    ]
    return Comparison(turns, OWN, [name for name in speeds if name != OWN])


def figures(shape: Shape, speed: float) -> dict[str, float]:
    """The figures of a turn; two of four processes exist."""
    used = {"server": 10.0, "caller": 5.0, CPU_BY_OTHERS: 1.0}
    if shape is Shape.IDLE:
        return {P50_MS: speed / 1000, P99_MS: speed / 500, **used}
    return {COMMANDS_PER_SECOND: speed, **used}


def by_name(found: Sequence[Finding]) -> dict[str, Finding]:
    assert len({finding.name for finding in found}) == len(found)
    return {finding.name: finding for finding in found}


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    """A machine that was slow in one round slows both, and changes nothing."""
    comparison = compared(distributor=[100, 10, 300], BullMQ=[50, 5, 100])
    assert comparison.ratio("BullMQ", Shape.BATCHED, COMMANDS_PER_SECOND) == 2
    assert comparison.median(OWN, Shape.BATCHED, COMMANDS_PER_SECOND) == 100


def test_the_best_peer_is_chosen_round_by_round() -> None:
    comparison = compared(distributor=[100, 100, 100], JetStream=[50, 20, 100], BullMQ=[20, 50, 10])
    assert comparison.ratio_to_best(RIVALS, Shape.BATCHED, COMMANDS_PER_SECOND) == 2


@pytest.mark.parametrize(("own", "ok"), [(200, True), (199, False)])
def test_in_batches_the_target_is_twice_the_best(own: float, ok: bool) -> None:
    found = by_name(compared(distributor=[own], JetStream=[100], BullMQ=[80]).findings())
    assert found[BEST].at_least == 2
    assert found[BEST].ok is ok


@pytest.mark.parametrize("present", RIVALS)
def test_with_one_of_both_peers_there_is_no_best(present: str) -> None:
    found = by_name(compared(distributor=[200], **{present: [100]}).findings())
    assert f"batched: distributor / {present}" in found
    assert BEST not in found


def test_each_shape_has_figures_and_ratios() -> None:
    found = by_name(compared(distributor=[3_000], taskiq=[1_500]).findings())
    assert found["50 at a time: taskiq"].value == 1_500
    singly = found["50 at a time: distributor / taskiq"]
    assert (singly.value, singly.ok) == (2, True)
    assert found["one at a time, p50: distributor"].value == 3
    assert found["one at a time, p99: taskiq"].unit == "ms"
    assert found["one at a time, p99: distributor / taskiq"].value == 2


def test_without_peers_only_own_figures_remain() -> None:
    found = by_name(compared(distributor=[100]).findings())
    assert all(" / " not in name for name in found)
    assert len(found) == 4


def test_the_table_has_a_row_for_each_contender_and_shape() -> None:
    text = list(lines(compared(distributor=[3_000], BullMQ=[1_500])))
    assert max(map(len, text)) <= WIDTH
    rows = [line.split() for line in text if line.startswith("BullMQ")]
    assert rows[0] == ["BullMQ", "1,500", "2.00", "10.00", "–", "–", "5.00", "15.00", "1.00", "%"]
    assert len(rows) == len(Shape)
    assert all(role in text[3] for role in ROLES)


def test_the_peers_own_figures_stand_below_the_heads_of_their_columns() -> None:
    text = list(lines(compared(distributor=[3_000], BullMQ=[1_500])))
    head, own = text[3], text[4]
    assert own.index("3,000") + len("3,000") == head.index(COMMANDS_PER_SECOND) + len(COMMANDS_PER_SECOND)


def test_what_a_peer_does_not_do_and_only_partly_does_are_two_paragraphs() -> None:
    text = " ".join(line.strip() for line in missing_features("BullMQ"))
    lacking, _, partly = text.partition("BullMQ only partly: ")
    assert lacking.startswith("BullMQ does not: keep agents away from the store; ")
    assert "stream output while a command runs, with offsets (log lines and progress)" in partly
    assert "order by priority" not in text
    assert list(missing_features("an unknown peer")) == []


def test_settings_and_left_out_peers_are_named() -> None:
    text = list(peer_lines({"BullMQ": "keeps nothing"}, {"taskiq": "not installed"}))
    assert "BullMQ: keeps nothing." in text
    assert text[-1] == "taskiq is left out: not installed"
    assert max(map(len, text)) <= WIDTH


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (1234.5, "1,234"), (99.123, "99.12")])
def test_figures_have_few_digits(value: float | None, text: str) -> None:
    assert shown(value) == text
