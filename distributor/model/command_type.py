"""Registered command types: who may send them, where, with which params, and which params are secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from distributor.model.command import shown
from distributor.model.control import CONTROL_TYPES
from distributor.model.json_pointer import Steps

if TYPE_CHECKING:
    # Slow to import, and used only by those who load a schema.
    from distributor.model.params_schema import ParamsSchema


class NotPermitted(Exception):
    """A command type does not permit a command. `field` is what it does not permit, `reason` a stable code."""

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CommandType:
    """One registered type. What is empty or None does not restrict; everything that is set must hold.

    `roles`: the sender must have one of them. `callers`, `agents`: patterns such as `web-*`, of which one must match
    the sender's principal, or the agent's id. `labels`: the agent must have all of them. `secrets`: pointers of its
    secret params as given, and `secret_steps` parsed.
    """

    name: str
    schema: ParamsSchema | None = None
    roles: frozenset[str] = frozenset()
    callers: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    secret_steps: tuple[Steps, ...] = ()

    def check_sender(self, principal: str, roles: Collection[str]) -> None:
        """Raise NotPermitted unless this sender may send the type."""
        if (self.roles and not self.roles.intersection(roles)) or not _matches(self.callers, principal):
            raise NotPermitted("command.type", "SENDER_NOT_PERMITTED", f"you may not send {self.name}")

    def check_agent(self, agent_id: str, labels: Mapping[str, str] | None) -> None:
        """Raise NotPermitted unless the type may run on this agent. `labels` None: they are not known, nor needed."""
        permitted = _matches(self.agents, agent_id)
        if self.labels:
            known = labels or {}
            permitted = permitted and all(known.get(name) == value for name, value in self.labels.items())
        if not permitted:
            raise NotPermitted("command.agent_id", "AGENT_NOT_PERMITTED", f"{self.name} may not run on {agent_id}")


@dataclass(frozen=True, slots=True)
class CommandTypes:
    """All registered types by name. `refuse_unlisted`: others are refused, except for PING and STOP."""

    types: Mapping[str, CommandType] = field(default_factory=dict)
    refuse_unlisted: bool = False

    def find(self, name: str) -> CommandType | None:
        """The type of a command; None if it is not registered. Raises NotPermitted if others are refused."""
        found = self.types.get(name)
        if found is None and self.refuse_unlisted and name not in CONTROL_TYPES:
            raise NotPermitted(
                "command.type", "TYPE_NOT_REGISTERED", f"{shown(name, 64)} is not a registered command type"
            )
        return found

    def secrets_of(self, name: str) -> tuple[str, ...]:
        """Pointers of the params that are secret in every command of a type."""
        found = self.types.get(name)
        return found.secrets if found else ()


ALL_TYPES: Final = CommandTypes()
"""No type is registered, and none refused."""


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)
