"""Back-pressure from readers of output to the program that writes it.

An agent stops reading from its program while too much output is unacknowledged. A reader that needs every byte
therefore delays acknowledgements: at most `slack_bytes` beyond the slowest such reader are acknowledged. Together
with the agent's window, this never exceeds what the output log retains.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.model.agent_report import LeaseRef
from distributor.model.agent_session import AgentSession
from distributor.observability.logging import get_logger

logger = get_logger()

RESERVED_SECONDS: Final = 10.0
"""How long output is held for a reader announced when the command was queued."""


class Hold:
    """One reader's hold on the output of one command. The owner must call `close()`."""

    def __init__(self, command_id: str, offset: int, changed: Callable[[Hold], None]) -> None:
        self.command_id = command_id
        self.offset = offset
        """Everything before this offset has been read."""
        self.open = True
        self._changed = changed

    def read(self, offset: int) -> None:
        """The reader has everything before `offset`. This revives a hold that was given up."""
        self.offset = offset
        self._changed(self)

    def close(self) -> None:
        """The reader has left."""
        self.open = False
        self._changed(self)


class _Withheld(NamedTuple):
    """Output whose acknowledgement waits for readers. `base` is where its attempt began."""

    agent_id: str
    lease: LeaseRef
    base: int
    end: int
    acknowledged: int


class OutputHolds:
    """The holds of this replica's readers, and the acknowledgements that wait for them. One event loop.

    If a reader stalls for `patience_seconds` while its program waits, the command continues without that reader, which
    then finds a gap.
    """

    def __init__(self, registry: AgentRegistry, slack_bytes: int, patience_seconds: float) -> None:
        self._registry = registry
        self._slack_bytes = slack_bytes
        self._patience_seconds = patience_seconds
        self._holds: dict[str, set[Hold]] = {}
        self._reserved: dict[str, Hold] = {}
        self._withheld: dict[str, _Withheld] = {}
        self._blocked_since: dict[str, float] = {}

    # Readers

    def open(self, command_id: str, offset: int) -> Hold:
        """Hold the output of a command for a reader that has everything before `offset`."""
        hold = Hold(command_id, offset, self._changed)
        self._holds.setdefault(command_id, set()).add(hold)
        if reserved := self._reserved.pop(command_id, None):
            reserved.close()
        return hold

    def close(self, hold: Hold | None) -> None:
        """Close a hold, if any."""
        if hold is not None:
            hold.close()

    def reserve(self, command_id: str, seconds: float = RESERVED_SECONDS) -> None:
        """Hold the output of a command from its start until its reader arrives, for at most `seconds`."""
        hold = self.open(command_id, 0)
        self._reserved[command_id] = hold
        asyncio.get_running_loop().call_later(seconds, self._release_reserved, hold)

    def _release_reserved(self, hold: Hold) -> None:
        if self._reserved.get(hold.command_id) is hold:
            del self._reserved[hold.command_id]
            hold.close()

    def _changed(self, hold: Hold) -> None:
        holds = self._holds.setdefault(hold.command_id, set())
        if hold.open:
            holds.add(hold)
        else:
            holds.discard(hold)
        if not holds:
            del self._holds[hold.command_id]
        self._acknowledge(hold.command_id)

    # Agents

    def holds(self, command_id: str) -> bool:
        """Whether a reader holds the output of this command."""
        return command_id in self._holds

    def acknowledgeable(self, session: AgentSession, lease: LeaseRef, base: int, stored: int) -> int:
        """Offset up to which an agent may discard output, of which everything before `stored` is stored.

        `base` is where its attempt began in the command's output; `stored` and the return value count from there. The
        remainder is acknowledged later through the agent's stream.
        """
        end = base + stored
        limit = self._limit(lease.command_id, end)
        if limit == end:
            self._forget(lease.command_id)
            return stored
        before = self._withheld.get(lease.command_id)
        known = before.acknowledged if before is not None and before.lease == lease else base
        limit = max(limit, known)
        self._withheld[lease.command_id] = _Withheld(session.agent_id, lease, base, end, limit)
        if lease.command_id not in self._blocked_since:
            self._blocked_since[lease.command_id] = time.monotonic()
            self._expire_later(lease.command_id, self._patience_seconds)
        return limit - base

    def _limit(self, command_id: str, end: int) -> int:
        slowest = min((hold.offset for hold in self._holds.get(command_id, ())), default=end)
        return min(end, slowest + self._slack_bytes)

    def _acknowledge(self, command_id: str) -> None:
        withheld = self._withheld.get(command_id)
        if withheld is None:
            return
        limit = self._limit(command_id, withheld.end)
        if limit <= withheld.acknowledged:
            return
        self._blocked_since[command_id] = time.monotonic()
        if limit == withheld.end:
            self._forget(command_id)
        else:
            self._withheld[command_id] = withheld._replace(acknowledged=limit)
        agent = self._registry.get(withheld.agent_id)
        if agent is not None and agent.session.holds(*withheld.lease):
            agent.acknowledge_output(withheld.lease, limit - withheld.base)

    def _forget(self, command_id: str) -> None:
        self._withheld.pop(command_id, None)
        self._blocked_since.pop(command_id, None)

    def _expire_later(self, command_id: str, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._expire, command_id)

    def _expire(self, command_id: str) -> None:
        """Give up the holds of readers that have stalled too long."""
        since, withheld = self._blocked_since.get(command_id), self._withheld.get(command_id)
        if since is None or withheld is None:
            return
        rest = since + self._patience_seconds - time.monotonic()
        if rest > 0:
            self._expire_later(command_id, rest)
            return
        logger.warning("reader stalled, output hold released", command_id=command_id)
        stuck = {hold for hold in self._holds.get(command_id, ()) if hold.offset + self._slack_bytes < withheld.end}
        self._holds[command_id] = self._holds.get(command_id, set()) - stuck
        if not self._holds[command_id]:
            del self._holds[command_id]
        self._acknowledge(command_id)
