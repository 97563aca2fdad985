"""Limits each actor to a share of the audit trail, to keep the rows of others. Pure: `now` is an argument."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from distributor.model.audit_entry import AuditActor
from distributor.model.token_bucket import TokenBucket

SCARCE_FROM: Final = 0.4
"""The part of the trail that must be full for shares to apply."""
OF_A_CALLER: Final = 0.1
"""The part of the trail that one caller, or all that has no known caller, may fill within the retention."""
OF_A_DELEGATE: Final = 0.3
"""That of a bridge, with all users that it calls for."""
MAX_ACTORS: Final = 2_000

_Key = tuple[str, str, str]


class AuditShares:
    """Counts the rows of each actor while the trail is scarce: half of a share at once, the other half over time.

    The trail drops its oldest rows beyond a number, so whoever writes most displaces what others did. While there is
    room, nobody is limited.
    """

    def __init__(self, max_rows: int = 1_000_000, retention_seconds: float = 30 * 86_400.0) -> None:
        """The limits of the trail."""
        self._max_rows = max_rows
        self._retention = retention_seconds
        self._buckets: OrderedDict[_Key, TokenBucket] = OrderedDict()
        self.scarce = False
        """Whether shares apply."""

    def __len__(self) -> int:
        return len(self._buckets)

    def filled(self, part: float) -> None:
        """Apply shares if the trail is so full, from 0 to 1, that it is scarce."""
        self.scarce = part >= SCARCE_FROM
        if not self.scarce:
            self._buckets.clear()

    def admits(self, actor: AuditActor, now: float) -> bool:
        """Return whether a row of this actor fits into its share, and count it. `now` is in seconds."""
        if not self.scarce:
            return True
        buckets = self._buckets_of(actor, now)
        if any(bucket.wait(1, now) for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.take(1, now)
        return True

    def _buckets_of(self, actor: AuditActor, now: float) -> list[TokenBucket]:
        if actor.kind not in ("user", "service"):
            return [self._bucket(("", "", ""), OF_A_CALLER, now)]
        own = self._bucket((actor.kind, actor.subject, actor.on_behalf_of), OF_A_CALLER, now)
        if not actor.on_behalf_of:
            return [own]
        # A delegate names its users and could invent some.
        return [own, self._bucket((actor.kind, actor.subject, "*"), OF_A_DELEGATE, now)]

    def _bucket(self, key: _Key, part: float, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            rows = part * self._max_rows
            bucket = self._buckets[key] = TokenBucket(rows / 2 / self._retention, rows / 2, now)
            if len(self._buckets) > MAX_ACTORS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket
