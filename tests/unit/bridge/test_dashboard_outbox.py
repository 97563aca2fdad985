from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from distributor.bridge.dashboard_outbox import DashboardOutbox


def taken(outbox: DashboardOutbox) -> list[str]:
    """All that is queued, in order: texts, and of output and gaps what they cover."""
    found = []
    while (entry := outbox.take()) is not None:
        if entry.gap:
            gap = json.loads(entry.text)
            found.append(f"gap {gap['commandId']} {gap['beginOffset']}-{gap['endOffset']} {gap['reason']}")
        elif entry.command_id:
            found.append(f"{entry.command_id} {entry.begin}-{entry.end}")
        else:
            found.append(entry.text)
    return found


def test_order_is_kept() -> None:
    outbox = DashboardOutbox()
    outbox.add("a")
    assert outbox.add_output("c", 0, 5, "tail")
    outbox.add_state("c", "status", final=True)
    outbox.add_state("c", "result", final=True)
    assert outbox.add_gap("d", 0, 7)
    assert taken(outbox) == ["a", "c 0-5", "status", "result", "gap d 0-7 not_kept"]
    assert (len(outbox), outbox.bytes, outbox.lost) == (0, 0, False)


def test_output_takes_three_quarters_at_most() -> None:
    by_count = DashboardOutbox(max_messages=16)
    assert [by_count.add_output("c", n, n + 1, "t") for n in range(13)] == [True] * 12 + [False]
    by_bytes = DashboardOutbox(max_bytes=1_000)
    assert by_bytes.add_output("c", 0, 700, "t" * 700)
    assert not by_bytes.add_output("c", 700, 800, "t" * 100)
    assert not by_bytes.add_output("c", 700, 800, "t"), "bytes count as much as their text"
    assert by_bytes.has_room()


def test_sizes_are_in_bytes_as_sent() -> None:
    outbox = DashboardOutbox(max_bytes=1_000)
    outbox.add("é" * 100)
    assert outbox.bytes == 200
    outbox.add_state("c", "✓" * 100)
    assert outbox.bytes == 500
    assert not outbox.add_output("c", 0, 100, "é" * 150), "300 more would be over three quarters"
    assert outbox.add_output("c", 0, 100, "é" * 100)
    assert outbox.bytes == 700
    assert len(taken(outbox)) == 3
    assert outbox.bytes == 0


def test_output_is_cut_first_to_one_gap_with_both_ends() -> None:
    outbox = DashboardOutbox(max_messages=16)
    for number in range(6):
        assert outbox.add_output("c", 10 * number, 10 * number + 10, "t")
        assert outbox.add_output("d", number, number + 1, "t")
    for number in range(5):
        outbox.add(f"answer {number}")
    assert outbox.cut_bytes == 66
    assert taken(outbox) == ["gap c 0-60 slow", "gap d 0-6 slow", *(f"answer {number}" for number in range(5))]


def test_output_after_a_cut_goes_on_where_the_gap_ends() -> None:
    outbox = DashboardOutbox(max_messages=8)
    for number in range(6):
        assert outbox.add_output("c", number, number + 1, "t")
    for number in range(3):
        outbox.add(str(number))
    assert outbox.add_output("c", 6, 7, "t")
    assert taken(outbox) == ["gap c 0-6 slow", "0", "1", "2", "c 6-7"]


def test_a_later_state_takes_the_place_of_an_earlier_once_half_full() -> None:
    outbox = DashboardOutbox(max_messages=8)
    outbox.add_state("c", "queued")
    outbox.add_state("c", "assigned")
    assert len(outbox) == 2, "with room, every step is told"
    for number in range(3):
        outbox.add(str(number))
    outbox.add_state("c", "started")
    outbox.add_state("c", "completed", final=True)
    outbox.add_state("c", "result", final=True)
    assert taken(outbox) == ["queued", "0", "1", "2", "completed", "result"]


def test_what_is_left_out_is_noted_and_an_ending_is_not_left_out() -> None:
    outbox = DashboardOutbox(max_messages=8)
    for number in range(9):
        outbox.add_state(f"c{number}", f"queued {number}")
    assert (len(outbox), outbox.lost) == (8, True)
    outbox.add_state("c9", "completed", final=True)
    assert taken(outbox)[-1] == "completed"


def test_endings_have_a_bound_of_their_own() -> None:
    outbox = DashboardOutbox(max_messages=8)
    for number in range(32):
        outbox.add_state(f"c{number}", "completed", final=True)
    assert not outbox.overrun
    outbox.add_state("one more", "completed", final=True)
    assert outbox.overrun


def test_output_can_be_taken_back() -> None:
    outbox = DashboardOutbox()
    outbox.add_output("c", 0, 5, "tail")
    outbox.add_output("d", 0, 5, "tail")
    outbox.add_output("c", 5, 6, "tail")
    outbox.drop_output("c")
    assert taken(outbox) == ["d 0-5"]
    assert outbox.bytes == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("output"), st.sampled_from("cd"), st.integers(1, 300)),
        st.tuples(st.just("state"), st.sampled_from("cdefghijkl"), st.booleans()),
        st.tuples(st.just("answer"), st.just(""), st.integers(1, 300)),
        st.tuples(st.just("take"), st.just(""), st.integers(1, 8)),
    ),
    max_size=120,
)


class Heard:
    """What comes out of an outbox: checks that output is in order and complete."""

    def __init__(self, outbox: DashboardOutbox) -> None:
        self._outbox = outbox
        self.output = {"c": 0, "d": 0}
        self.texts: list[str] = []

    def take(self) -> bool:
        entry = self._outbox.take()
        if entry is None:
            return False
        if entry.command_id:
            assert entry.begin == self.output[entry.command_id]
            self.output[entry.command_id] = entry.end
        else:
            self.texts.append(entry.text)
        return True


@given(STEPS)
def test_bounds_hold_and_every_byte_of_output_is_told_or_in_a_gap(steps: list[tuple[str, str, int]]) -> None:
    outbox = DashboardOutbox(max_messages=16, max_bytes=2_000)
    heard, offered = Heard(outbox), {"c": 0, "d": 0}
    kept: list[str] = []
    for place, (kind, name, number) in enumerate(steps):
        if kind == "output" and outbox.add_output(name, offered[name], offered[name] + number, "t" * number):
            offered[name] += number
        elif kind == "take":
            any(not heard.take() for _ in range(number))
        elif kind == "answer" or (kind == "state" and number):
            kept.append(f"{kind} {place} to be kept")
            outbox.add(kept[-1]) if kind == "answer" else outbox.add_state(name, kept[-1], final=True)
        elif kind == "state":
            outbox.add_state(name, f"state of {name}")
        assert len(outbox) <= 16 + len(kept)
    while heard.take():
        pass
    assert heard.output == offered
    assert [text for text in heard.texts if "kept" in text] == kept
    assert outbox.bytes == 0
