"""Checks of a request to stop agents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from distributor.model.command import InvalidField, shown
from distributor.model.stop_scope import StopScope

MAX_SELECTORS: Final = 100
MAX_SELECTOR: Final = 256
"""Characters of one selector."""
MAX_STOP_REASON: Final = 512
ID_SELECTOR_PATTERN: Final = re.compile(r"[A-Za-z0-9._*-]{1,128}")
STOP_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def scope_of(all_agents: bool, selectors: Sequence[str]) -> StopScope:
    """Return the scope with these selectors, in order and without duplicates.

    Raises InvalidField unless it has either all agents or valid selectors.
    """
    if all_agents == bool(selectors):
        raise InvalidField("scope", "INVALID_SCOPE", "scope must have either all or selectors")
    if len(selectors) > MAX_SELECTORS:
        raise InvalidField(
            "scope.selectors",
            "TOO_MANY_SELECTORS",
            f"scope.selectors has {len(selectors):,} selectors, the limit is {MAX_SELECTORS}",
        )
    for selector in selectors:
        if not _is_valid(selector):
            raise InvalidField(
                "scope.selectors",
                "INVALID_SELECTOR",
                f"scope.selectors must be agent ids, which may have *, or label=value, not {shown(selector)}",
            )
    return StopScope(all_agents, tuple(dict.fromkeys(selectors)))


def check_stop(stop_id: str, reason: str) -> None:
    """Raise InvalidField unless a stop may have this id and reason."""
    if not STOP_ID_PATTERN.fullmatch(stop_id):
        raise InvalidField(
            "stop_id", "INVALID_STOP_ID", "stop_id must have 1 to 64 letters, digits, dots, dashes or underscores"
        )
    if len(reason) > MAX_STOP_REASON:
        raise InvalidField(
            "reason", "REASON_TOO_LONG", f"reason is {len(reason):,} characters, the limit is {MAX_STOP_REASON}"
        )


def _is_valid(selector: str) -> bool:
    label, equals, value = selector.partition("=")
    if equals:
        return bool(label and value) and len(selector) <= MAX_SELECTOR and selector.isprintable()
    return ID_SELECTOR_PATTERN.fullmatch(selector) is not None
