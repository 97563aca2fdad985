"""Enrolment: tokens that admit agents, and what the store knows of the agents that they admitted."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from distributor.model.command import AGENT_ID_PATTERN, InvalidField, shown

MAX_TOKEN_USES: Final = 100_000
MAX_TOKEN_LIFETIME_MS: Final = 30 * 86_400_000
_MAX_PATTERN: Final = 128
_PATTERN_CHARACTERS: Final = frozenset("*?")


class NewEnrolmentToken(NamedTuple):
    """A token to store: of its secret only the `digest`. `agents` is an agent id or a pattern with `*` and `?`.

    `uses` is how many agents may enrol with it.
    """

    token_id: str
    digest: str
    agents: str
    labels: Mapping[str, str]
    uses: int
    lifetime_ms: int


class EnrolmentToken(NamedTuple):
    """What a token admits. `agents` is an agent id or a pattern with `*` and `?`.

    `left` is how many agents may still enrol with it; `expires_ms` is in milliseconds since the epoch by Valkey's
    clock. The certificates of an agent that enrols with it have `labels`.
    """

    token_id: str
    agents: str
    labels: Mapping[str, str]
    left: int
    expires_ms: int

    @property
    def is_for_group(self) -> bool:
        """Whether it admits agents by a pattern. Such a token admits new agents only, and replaces none."""
        return is_pattern(self.agents)

    def admits(self, agent_id: str) -> bool:
        """Whether it is for this agent."""
        return fnmatchcase(agent_id, self.agents) if self.is_for_group else agent_id == self.agents


class Enrolment(NamedTuple):
    """What to record when an agent enrols. `replace` permits to take the place of an earlier enrolment that is live."""

    agent_id: str
    token_id: str
    token_digest: str
    group: bool
    replace: bool


def is_pattern(agents: str) -> bool:
    """Whether this is a pattern, not an agent id."""
    return not _PATTERN_CHARACTERS.isdisjoint(agents)


def check_agents(agents: str, field: str = "agents") -> None:
    """Raise InvalidField unless this is an agent id, or a pattern of agent ids with `*` and `?`."""
    plain = agents.replace("*", "x").replace("?", "x")
    if not AGENT_ID_PATTERN.fullmatch(plain) or len(agents) > _MAX_PATTERN:
        message = f"{field} must be an agent id, or a pattern of ids with * and ?, not {shown(agents)}"
        raise InvalidField(field, "INVALID_AGENT_ID", message)
