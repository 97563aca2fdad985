"""Which agents an emergency stop is for: a list of selectors, of which any may match.

A selector is an agent id or `label=value`. In the id and in the value, `*` stands for any characters, also none.
`store/functions/_stops.lua` matches in the same way; a property test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Labels = Mapping[str, str]


class StopScope(NamedTuple):
    """The agents of a stop: all, or those that any of the selectors matches."""

    all: bool = False
    selectors: tuple[str, ...] = ()

    def matches(self, agent_id: str, labels: Labels) -> bool:
        """Whether an agent is in scope. `labels` are those of its latest session, none if it never connected."""
        return self.all or any(_matches(selector, agent_id, labels) for selector in self.selectors)

    @property
    def named_agents(self) -> list[str]:
        """The agents that are selected by their whole id."""
        return [one for one in self.selectors if "=" not in one and "*" not in one]

    def __str__(self) -> str:
        return "all agents" if self.all else ", ".join(self.selectors)


def matches_wildcards(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern in which `*` stands for any characters. Linear: there is nothing to go back to."""
    head, *rest = pattern.split("*")
    if not rest:
        return text == head
    *middle, tail = rest
    if not text.startswith(head) or len(text) < len(head) + len(tail) or not text.endswith(tail):
        return False
    at, end = len(head), len(text) - len(tail)
    for part in middle:
        # The first place where a part fits leaves most for the parts behind it.
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _matches(selector: str, agent_id: str, labels: Labels) -> bool:
    label, equals, value = selector.partition("=")
    if equals:
        return label in labels and matches_wildcards(value, labels[label])
    return matches_wildcards(selector, agent_id)
