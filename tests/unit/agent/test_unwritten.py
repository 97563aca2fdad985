from __future__ import annotations

from distributor.agent.unwritten import UnwrittenChanges


def test_a_change_is_written_once_its_commit_has_succeeded() -> None:
    changes = UnwrittenChanges()
    changes.note("a")
    changes.note("a")
    assert changes.take() == ["a"]
    assert not changes.written("a")
    changes.note("a")
    changes.succeeded()
    assert not changes.written("a"), "it changed again meanwhile"
    assert changes.take() == ["a"]
    changes.succeeded()
    assert changes.written("a")
    assert not changes


def test_what_may_wait_travels_with_what_may_not() -> None:
    changes = UnwrittenChanges()
    urgent: list[bool] = []
    changes.on_change = urgent.append
    changes.note_later("a")
    changes.note("b")
    assert (urgent, changes.written("a"), changes.urgent) == ([False, True], True, True)
    assert changes.take() == ["b", "a"]


def test_what_was_not_written_comes_again_first() -> None:
    changes = UnwrittenChanges()
    changes.note("a")
    changes.take()
    changes.note("b")
    changes.failed()
    assert changes.take() == ["a", "b"]
