from __future__ import annotations

from contextlib import ExitStack

import pytest

from distributor.model.recent_peers import RecentPeers


def peers(most: int) -> RecentPeers[list[str]]:
    return RecentPeers(list, most)


def test_the_one_seen_least_recently_is_forgotten() -> None:
    some = peers(2)
    for name in ("a", "b", "a", "c"):
        some.of(name).append(name)
    assert len(some) == 2
    assert (some.of("a"), some.of("b")) == (["a", "a"], [])


def test_any_number_with_streams_is_remembered_beside_the_others() -> None:
    some = peers(2)
    some.of("idle").append("idle")
    with ExitStack() as streams:
        for number in range(10):
            streams.enter_context(some.stream(f"peer{number}"))
            some.of(f"peer{number}").append("busy")
        assert len(some) == 11
        assert (some.of("idle"), some.of("peer0")) == (["idle"], ["busy"])
    assert len(some) == 2


def test_streams_of_a_peer_are_counted_until_they_end() -> None:
    some = peers(2)
    some.of("a").append("before")
    with some.stream("a"):
        with some.stream("a"):
            assert some.streams("a") == 2
        with pytest.raises(ZeroDivisionError), some.stream("a"):
            raise ZeroDivisionError
        assert some.streams("a") == 1
    assert (some.streams("a"), some.of("a"), len(some)) == (0, ["before"], 1)
