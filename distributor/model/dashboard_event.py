"""What happens at a bridge, as it reports it to its server for the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_EVENTS: Final = 500
"""Events in one report."""
MAX_NAME: Final = 255
"""Characters of a user's name and of a token's id."""
MAX_COUNT: Final = 1_000_000_000


class DashboardEventKind(StrEnum):
    """What happened. The last three are refusals by the bridge itself."""

    RESULT_READ = "result_read"
    OUTPUT_READ = "output_read"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CALLER_REFUSED = "caller_refused"
    PERMISSION_DENIED = "permission_denied"
    LIMIT_EXCEEDED = "limit_exceeded"


@dataclass(frozen=True, slots=True)
class DashboardEvent:
    """One kind of event of one user, or several that happened together.

    `user` is empty if the bridge does not know it. `address` is where the dashboard is, an IP address or empty. `count`
    is the number of events; there may be fewer ids of commands. `method` is the message or route, `reason` a reason
    code, `age_ms` how long ago the first of the events happened.
    """

    kind: DashboardEventKind
    user: str = ""
    address: str = ""
    command_ids: tuple[str, ...] = ()
    count: int = 1
    reason: str = ""
    method: str = ""
    token_id: str = ""
    age_ms: int = 0
