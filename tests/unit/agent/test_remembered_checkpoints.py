from __future__ import annotations

from pathlib import Path

import pytest

from distributor.agent.journal import Journal
from distributor.agent.journal_entries import JournalBatch
from distributor.agent.journal_policy import JournalPolicy
from distributor.agent.remembered_checkpoints import MAX_KEPT, RememberedCheckpoints
from distributor.cli.remembered_checkpoints import remembered_checkpoints
from distributor.errors import ConfigurationError
from distributor.identity.audit_checkpoint import signed
from tests.support.memory_trail import ring

KEY = ring().current


def checkpoint(size: int, origin: str = "distributor/audit/01") -> str:
    return signed(origin, size, b"r" * 32, KEY).text


def test_the_longest_of_a_trail_is_remembered() -> None:
    remembered = RememberedCheckpoints()
    assert remembered.newest == ""
    assert remembered.remember(checkpoint(5))
    assert remembered.remember(checkpoint(7))
    assert not remembered.remember(checkpoint(6)), "what was cut off must not make a witness forget"
    assert remembered.newest == checkpoint(7)
    assert remembered.all == (checkpoint(7),)


def test_a_trail_that_replaced_another_does_not_erase_it() -> None:
    remembered = RememberedCheckpoints()
    remembered.remember(checkpoint(500, "old"))
    remembered.remember(checkpoint(1, "new"))
    assert remembered.newest == checkpoint(1, "new")
    assert remembered.all == (checkpoint(500, "old"), checkpoint(1, "new"))


def test_only_a_few_are_kept() -> None:
    remembered = RememberedCheckpoints()
    for number in range(MAX_KEPT + 3):
        remembered.remember(checkpoint(1, f"trail-{number}"))
    assert len(remembered.all) == MAX_KEPT
    assert remembered.newest == checkpoint(1, f"trail-{MAX_KEPT + 2}")


@pytest.mark.parametrize("text", ["", "x", "a\nb\nc\n", checkpoint(1) + "x", checkpoint(1)[:-1], "a" * 5_000])
def test_other_texts_are_not_remembered(text: str) -> None:
    remembered = RememberedCheckpoints()
    assert not remembered.remember(text)
    assert remembered.take() is None


def test_what_is_taken_to_be_written_comes_again_if_that_fails() -> None:
    remembered = RememberedCheckpoints()
    remembered.remember(checkpoint(1))
    assert remembered.take() == (checkpoint(1),)
    assert remembered.take() is None
    remembered.failed()
    assert remembered.take() == (checkpoint(1),)


def test_a_journal_keeps_them_and_others_can_read_it_meanwhile(tmp_path: Path) -> None:
    policy = JournalPolicy(tmp_path / "a.journal")
    journal, contents = Journal.open(policy, "agent123")
    assert contents.checkpoints == []
    journal.commit(JournalBatch(checkpoints=(checkpoint(3, "old"), checkpoint(9))))
    assert remembered_checkpoints(policy.path) == [checkpoint(3, "old"), checkpoint(9)], "the journal is locked"
    journal.close()
    journal, contents = Journal.open(policy, "agent123")
    journal.close()
    assert contents.checkpoints == [checkpoint(3, "old"), checkpoint(9)]
    remembered = RememberedCheckpoints()
    remembered.restore(contents.checkpoints)
    assert remembered.newest == checkpoint(9)
    assert remembered.take() is None, "the journal has them"


def test_a_journal_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no journal"):
        remembered_checkpoints(tmp_path / "none")
    (tmp_path / "other").write_text("not a database, but long enough to be taken for one by its size alone" * 20)
    with pytest.raises(ConfigurationError, match="cannot read the journal"):
        remembered_checkpoints(tmp_path / "other")
