from __future__ import annotations

from typing import Any

import pytest

from distributor.errors import ConfigurationError
from distributor.identity.grants import EVERYTHING, Grant, Grants
from distributor.identity.roles import Role
from distributor.identity.service_access import services_of


def test_roles_and_grants_of_services() -> None:
    services = services_of(
        {
            "bridge": {"roles": ["delegate"]},
            "deploy": {"roles": ["operator"], "agents": ["web-*"], "labels": {"site": "berlin"}, "types": ["EXEC"]},
        },
        "policy.toml",
    )
    assert services["bridge"] == (frozenset({Role.DELEGATE}), EVERYTHING)
    roles, grants = services["deploy"]
    assert roles == {Role.OPERATOR, Role.VIEWER}
    assert grants == Grants((Grant(agents=("web-*",), labels={"site": "berlin"}, types=("EXEC",)),))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "must be tables"),
        ({"a": 7}, "must be a table"),
        ({"a b": {"roles": ["admin"]}}, "must be a table, named by"),
        ({"a": {}}, "roles must list"),
        ({"a": {"roles": []}}, "roles must list"),
        ({"a": {"roles": "admin"}}, "roles must list"),
        ({"a": {"roles": ["root"]}}, "roles must list"),
        ({"a": {"roles": [["admin"]]}}, "roles must list"),
        ({"a": {"roles": ["admin"], "agent": ["x"]}}, "unknown setting agent"),
        ({"a": {"roles": ["admin"], "agents": "x"}}, r"grants\[0\].agents"),
    ],
)
def test_tables_that_will_not_do(tables: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        services_of(tables, "policy.toml")
    assert "policy.toml" in str(caught.value)
