"""Digests of settings, which show which settings have changed without revealing their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from distributor.identity.audit_keys import AuditKey

_LABEL: Final = b"distributor audit setting"


def setting_digests(values: Mapping[str, Any], key: AuditKey) -> dict[str, str]:
    """A MAC of each value, by name: without the key, guesses of a secret cannot be checked.

    Values are those of JSON, or of types whose text is their value.
    """
    return {
        name: key.mac(_LABEL, json.dumps([name, value], sort_keys=True, default=str).encode())
        for name, value in values.items()
    }


def changed_names(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of the settings that differ, in order."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest of all settings: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(dict(digests), sort_keys=True).encode()).hexdigest()[:16]
