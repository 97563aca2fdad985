from __future__ import annotations

import pytest

from distributor.agent import seen_signatures
from distributor.agent.journal_entries import SeenSignature
from distributor.agent.seen_signatures import SeenSignatures

ONE = SeenSignature("key", "signature", "command-1", 1_000)
AGAIN = ONE._replace(command_id="command-2")


def refused(seen: SeenSignatures, signature: SeenSignature, may_run_again: bool = False, now_ms: int = 0) -> str:
    refusal = seen.refusal(signature, may_run_again, now_ms)
    return refusal.reason.code if refusal else ""


def test_a_second_command_with_a_signature_is_refused() -> None:
    seen = SeenSignatures()
    assert not refused(seen, ONE)
    assert refused(seen, AGAIN) == "signature_replayed"
    assert not refused(seen, AGAIN._replace(key_id="other"))
    assert not refused(seen, AGAIN._replace(signature_id="other"))


def test_a_redelivered_command_is_no_replay() -> None:
    seen = SeenSignatures()
    assert not refused(seen, ONE)
    assert not refused(seen, ONE)


def test_a_started_command_is_not_started_again_even_if_the_record_has_forgotten_it() -> None:
    seen = SeenSignatures()
    refused(seen, ONE)
    seen.started(ONE)
    assert refused(seen, ONE) == "signature_replayed"
    assert not refused(seen, ONE, may_run_again=True)


def test_a_command_that_was_not_started_after_all_may_come_again() -> None:
    seen = SeenSignatures()
    refused(seen, ONE)
    seen.started(ONE)
    seen.take()
    seen.unstarted(ONE)
    assert not refused(seen, ONE)
    assert seen.take() == ([], [ONE.key])


def test_the_journal_gets_what_starts_once() -> None:
    seen = SeenSignatures()
    refused(seen, ONE)
    assert seen.take() == ([], [])
    seen.started(ONE)
    seen.started(ONE)
    assert seen.take() == ([ONE], [])
    assert seen.take() == ([], [])


def test_what_could_not_be_written_is_written_with_the_next_commit() -> None:
    seen = SeenSignatures()
    refused(seen, ONE)
    seen.started(ONE)
    seen.take()
    seen.failed()
    assert seen.take() == ([ONE], [])


def test_what_earlier_processes_started_counts() -> None:
    seen = SeenSignatures()
    seen.restore([ONE])
    assert refused(seen, ONE) == "signature_replayed"
    assert refused(seen, AGAIN) == "signature_replayed"


def test_memory_is_bounded_and_expired_signatures_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_signatures, "MAX_SEEN", 1_500)
    seen = SeenSignatures()
    for number in range(1_500):
        assert not refused(seen, ONE._replace(signature_id=str(number), expires_ms=1_000 + number % 2))
    assert refused(seen, ONE) == "busy"
    assert not refused(seen, ONE, now_ms=1_000)
