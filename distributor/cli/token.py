"""`distributor token`: mint a token for a dashboard."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Final

from distributor.errors import ConfigurationError
from distributor.identity.tokens import Scope, mint
from distributor.settings import BridgeSettings

MAX_SECONDS: Final = 366 * 86_400
_LIFETIME: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def token_for(settings: BridgeSettings, subject: str, scopes: Sequence[str], lifetime: str) -> str:
    """A token signed with the bridge's key. Raises ConfigurationError."""
    key = settings.signing_key()
    if not key:
        raise ConfigurationError(
            "tokens are signed with the bridge's key: set token_key or token_key_file in [bridge], or "
            "DISTRIBUTOR_BRIDGE_TOKEN_KEY; generate one with openssl rand -hex 32",
            field="token_key",
        )
    _check_subject(subject)
    now = int(time.time())
    granted = [Scope(scope) for scope in scopes] or [Scope.READ]
    return mint(key, subject, granted, settings.token_audience, now, now + seconds_of(lifetime))


def _check_subject(subject: str) -> None:
    """Raise ConfigurationError for a subject that every bridge would refuse."""
    problem = ""
    if not subject:
        problem = "must not be empty"
    elif any("\ud800" <= character <= "\udfff" for character in subject):
        problem = "must be UTF-8"
    if problem:
        raise ConfigurationError(f"--subject {problem}", field="subject")


def seconds_of(lifetime: str) -> int:
    """Convert "90", "90s", "15m", "12h" or "7d" to seconds. Raises ConfigurationError."""
    match = _LIFETIME.fullmatch(lifetime)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= MAX_SECONDS:
        raise ConfigurationError(
            f"--expires-in must be 1 s to 366 d, such as 90s, 15m, 12h or 7d, not '{lifetime}'", field="expires_in"
        )
    return seconds
