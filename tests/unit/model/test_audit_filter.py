from __future__ import annotations

import pytest

from distributor.model.audit_filter import MAX_TYPES, AuditFilter
from distributor.model.command import InvalidField


@pytest.mark.parametrize(
    ("wrong", "reason", "message"),
    [
        (AuditFilter(types=("nope.",)), "UNKNOWN_AUDIT_TYPE", "there is no type 'nope.' in the audit trail"),
        (AuditFilter(outcomes=("nope",)), "UNKNOWN_AUDIT_OUTCOME", "there is no outcome 'nope' in the audit trail"),
        (AuditFilter(types=("agent.",) * (MAX_TYPES + 1)), "TOO_MANY_AUDIT_TYPES", "at most 50 types may be given"),
    ],
    ids=["type", "outcome", "types"],
)
def test_an_error_is_a_sentence_of_its_own(wrong: AuditFilter, reason: str, message: str) -> None:
    with pytest.raises(InvalidField) as caught:
        wrong.checked()
    assert (caught.value.reason, str(caught.value)) == (reason, message)


def test_a_type_or_all_of_its_kind_may_be_given() -> None:
    wanted = AuditFilter(types=("agent.", "command.queued"), outcomes=("success",))
    assert wanted.checked() is wanted
