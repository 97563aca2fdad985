"""The roles and grants of services that are known by a client certificate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from distributor.errors import ConfigurationError, InvalidArgument
from distributor.identity.grant_claims import grants_of
from distributor.identity.grants import EVERYTHING, Grants
from distributor.identity.roles import NO_ROLES, Role, with_included

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FIELDS: Final = frozenset({"roles", "agents", "labels", "types"})


class ServiceAccess(NamedTuple):
    """What a service may do."""

    roles: frozenset[Role]
    grants: Grants = EVERYTHING


NO_ACCESS: Final = ServiceAccess(NO_ROLES)
"""A service without a table of its own."""


def services_of(tables: object, origin: str) -> Mapping[str, ServiceAccess]:
    """The access of each service, from the tables `[services.NAME]` with `roles`, `agents`, `labels` and `types`.

    `origin` names the file in errors. Raises ConfigurationError that names the table.
    """
    if not isinstance(tables, Mapping):
        raise _invalid(f"services in {origin} must be tables, [services.NAME]")
    return {name: _access(name, table, f"[services.{name}] of {origin}") for name, table in tables.items()}


def _access(name: str, table: Any, where: str) -> ServiceAccess:
    if not _NAME.fullmatch(name) or not isinstance(table, Mapping):
        raise _invalid(f"{where} must be a table, named by 1 to 128 of A-Z a-z 0-9 . _ -")
    if unknown := sorted(set(table) - _FIELDS):
        raise _invalid(f"{where} has the unknown setting {unknown[0]}")
    narrowed = {field: table[field] for field in ("agents", "labels", "types") if field in table}
    try:
        return ServiceAccess(_roles(table, where), grants_of([narrowed]) if narrowed else EVERYTHING)
    except InvalidArgument as error:
        raise _invalid(f"{where}: {error}") from error


def _roles(table: Mapping[str, Any], where: str) -> frozenset[Role]:
    words = table.get("roles")
    if not isinstance(words, list) or not words or any(word not in list(Role) for word in words):
        raise _invalid(f"{where}: roles must list at least one of {', '.join(Role)}")
    return with_included(Role(word) for word in words)


def _invalid(message: str) -> ConfigurationError:
    return ConfigurationError(message, reason="INVALID_SETTING", field="policy_file")
