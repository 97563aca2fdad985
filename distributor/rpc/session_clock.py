"""The clock by which agents' sessions are kept."""

from __future__ import annotations

import time


def monotonic_ms() -> float:
    """Current time in milliseconds since some fixed moment."""
    return time.monotonic() * 1000
