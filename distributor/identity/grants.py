"""Grants: the agents and command types that a caller may deal with."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import translate
from functools import cached_property, lru_cache
from re import Pattern, compile
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


@lru_cache(maxsize=1_024)
def _pattern(glob: str) -> Pattern[str]:
    return compile(translate(glob))


class Grant(BaseModel):
    """Agents by id and labels, and command types on them. What is left out does not narrow.

    `agents` and `types` are globs (`web-*`), of which one must match; of `labels`, all must.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = Field((), max_length=100)
    labels: dict[str, str] = Field(default_factory=dict, max_length=20)
    types: tuple[str, ...] = Field((), max_length=100)

    def includes_agent(self, agent_id: str, labels: Mapping[str, str]) -> bool:
        """Return whether it includes an agent with these labels."""
        return _any_matches(self.agents, agent_id) and all(labels.get(name) == v for name, v in self.labels.items())

    def includes_type(self, type_: str) -> bool:
        """Return whether it includes commands of this type."""
        return _any_matches(self.types, type_)


def _any_matches(globs: tuple[str, ...], text: str) -> bool:
    return not globs or any(_pattern(glob).match(text) for glob in globs)


class Grants:
    """All grants of a caller; what one of them includes is permitted. Immutable."""

    def __init__(self, grants: tuple[Grant, ...] | None) -> None:
        """None permits everything, an empty tuple nothing."""
        self._grants = grants

    @property
    def everything(self) -> bool:
        """Whether nothing is excluded."""
        return self._grants is None

    @cached_property
    def need_labels(self) -> bool:
        """Whether the labels of an agent matter; if not, they need not be read."""
        return any(grant.labels for grant in self._grants or ())

    def permit(self, agent_id: str, labels: Mapping[str, str], type_: str) -> bool:
        """Return whether commands of this type on this agent are permitted: to send, to see, to cancel."""
        return self._grants is None or any(
            grant.includes_type(type_) and grant.includes_agent(agent_id, labels) for grant in self._grants
        )

    def permit_agent(self, agent_id: str, labels: Mapping[str, str]) -> bool:
        """Return whether the caller may see this agent: whether any type on it is permitted."""
        return self._grants is None or any(grant.includes_agent(agent_id, labels) for grant in self._grants)

    def documents(self) -> list[dict[str, object]] | None:
        """Return the grants as in a token; None if nothing is excluded."""
        return None if self._grants is None else [grant.model_dump(exclude_defaults=True) for grant in self._grants]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grants) and self._grants == other._grants

    def __hash__(self) -> int:
        return hash(str(self.documents()))

    def __repr__(self) -> str:
        return f"Grants({self._grants!r})"


EVERYTHING: Final = Grants(None)
