"""Labels of agents: what an agent says of itself, and what its credential says of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from distributor.model.command import InvalidField

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
MAX_LABEL_CHARACTERS: Final = 256
"""Name and value together."""
MAX_CREDENTIAL_LABELS: Final = 20
MAX_CREDENTIAL_LABELS_BYTES: Final = 4_096
"""Of the canonical form: it is in each handshake, or in each call."""
EVERY_NAME: Final = "*"
"""Among the names of verified labels, stands for all names."""


class AgentLabels(NamedTuple):
    """The labels of an agent: those that count, and among them those that its credential proves.

    Of the labels in its Hello, `unproven` names those that count only if they are proven, and are not, and `overruled`
    those to which the credential gives another value.
    """

    effective: Mapping[str, str]
    proven: Mapping[str, str] = NO_LABELS
    unproven: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()


def agent_labels(claimed: Mapping[str, str], proven: Mapping[str, str], verified: Collection[str]) -> AgentLabels:
    """Combine the labels that an agent claims with those that its credential proves, which take precedence.

    Labels with one of the `verified` names count only if they are proven.
    """
    needs_proof = claimed.keys() if EVERY_NAME in verified else claimed.keys() & verified
    unproven = needs_proof - proven.keys()
    effective = {name: value for name, value in claimed.items() if name not in unproven} | dict(proven)
    overruled = (name for name, value in proven.items() if claimed.get(name, value) != value)
    return AgentLabels(effective, proven, tuple(sorted(unproven)), tuple(sorted(overruled)))


def credential_labels(value: Any, field: str = "labels") -> Mapping[str, str]:
    """Check the labels of a credential: an object of names and values. Raises InvalidField."""
    if not isinstance(value, Mapping):
        raise _invalid(field, "must be an object with a text for each name")
    if len(value) > MAX_CREDENTIAL_LABELS:
        raise _invalid(field, f"has {len(value):,} entries, the limit is {MAX_CREDENTIAL_LABELS}")
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in value.items()):
        raise _invalid(field, "must be an object with a text for each name")
    labels: dict[str, str] = dict(value)
    if any(not name or len(name) + len(text) > MAX_LABEL_CHARACTERS for name, text in labels.items()):
        raise _invalid(field, f"must have names, and {MAX_LABEL_CHARACTERS} characters each")
    if not all((name + text).isprintable() for name, text in labels.items()):
        raise _invalid(field, "must be printable")
    if len(canonical_labels(labels)) > MAX_CREDENTIAL_LABELS_BYTES:
        raise _invalid(field, f"must have at most {MAX_CREDENTIAL_LABELS_BYTES:,} bytes in all")
    return MappingProxyType(labels)


def canonical_labels(labels: Mapping[str, str]) -> bytes:
    """JSON in UTF-8, with sorted names and without spaces: equal labels have equal bytes."""
    return json.dumps(dict(labels), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _invalid(field: str, problem: str) -> InvalidField:
    return InvalidField(field, "INVALID_LABELS", f"{field} {problem}")
