"""The headers with which HTTP routes say how a refused request may succeed."""

from __future__ import annotations

import math

from distributor.errors import DistributorError, Unauthenticated


def refusal_headers(error: DistributorError) -> dict[str, str]:
    """`WWW-Authenticate` for a request without valid credentials, `Retry-After` if waiting helps."""
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    if error.retry_after_seconds is not None:
        # Whole seconds (RFC 9110, section 10.2.3), and not 0.
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return headers
