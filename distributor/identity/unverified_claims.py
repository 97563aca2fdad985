"""Reads the claims of a token without verifying them: only for display to its owner, never for a decision."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final, NamedTuple

_MAX_EXPIRES: Final = 253_402_300_799
"""The end of the year 9999."""


class UnverifiedClaims(NamedTuple):
    """The subject of a token, empty if it names none, and when it expires, in seconds since the epoch."""

    subject: str
    expires: float | None


def unverified_claims(token: str) -> UnverifiedClaims | None:
    """Return the claims of a JWT; None for anything else, such as a token that only its issuer can read."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    subject, expires = claims.get("sub"), claims.get("exp")
    return UnverifiedClaims(subject if isinstance(subject, str) else "", _time(expires))


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MAX_EXPIRES else None
