from __future__ import annotations

import pytest
from pydantic import ValidationError

from distributor.identity.grants import EVERYTHING, Grant, Grants

WEB = Grant(agents=("web-*", "edge"), types=("EXEC", "P*"))
BERLIN = Grant(labels={"site": "berlin"})


@pytest.mark.parametrize(
    ("agent_id", "type_", "permitted"),
    [
        ("web-1", "EXEC", True),
        ("edge", "PING", True),
        ("web-1", "STOP", False),
        ("db-1", "EXEC", False),
        ("edge-2", "EXEC", False),
        ("Web-1", "EXEC", False),
    ],
)
def test_a_grant_names_agents_and_types_by_globs(agent_id: str, type_: str, permitted: bool) -> None:
    assert Grants((WEB,)).permit(agent_id, {}, type_) is permitted


def test_all_labels_of_a_grant_must_match() -> None:
    grants = Grants((Grant(labels={"site": "berlin", "tier": "1"}),))
    assert grants.permit_agent("a", {"site": "berlin", "tier": "1", "more": ""})
    assert not grants.permit_agent("a", {"site": "berlin"})
    assert not grants.permit_agent("a", {"site": "paris", "tier": "1"})
    assert not grants.permit_agent("a", {})


def test_one_of_several_grants_suffices_but_parts_of_two_do_not_add_up() -> None:
    grants = Grants((Grant(agents=("web-*",), types=("PING",)), Grant(agents=("db-*",), types=("EXEC",))))
    assert grants.permit("web-1", {}, "PING")
    assert grants.permit("db-1", {}, "EXEC")
    assert not grants.permit("web-1", {}, "EXEC")
    assert grants.permit_agent("web-1", {})


def test_no_grants_permit_nothing_and_none_permits_everything() -> None:
    assert not Grants(()).permit_agent("web-1", {})
    assert EVERYTHING.permit("web-1", {}, "EXEC")
    assert EVERYTHING.everything
    assert not Grants((Grant(),)).everything


def test_labels_are_read_only_if_a_grant_has_some() -> None:
    assert not Grants((WEB,)).need_labels
    assert Grants((WEB, BERLIN)).need_labels
    assert not EVERYTHING.need_labels


def test_an_unknown_member_of_a_grant_is_an_error_rather_than_a_wider_grant() -> None:
    with pytest.raises(ValidationError, match="agent"):
        Grant.model_validate({"agent": ["web-1"]})


def test_documents_say_what_a_token_says() -> None:
    assert Grants((WEB, BERLIN)).documents() == [
        {"agents": ("web-*", "edge"), "types": ("EXEC", "P*")},
        {"labels": {"site": "berlin"}},
    ]
    assert EVERYTHING.documents() is None
