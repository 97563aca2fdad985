"""Ends streams and calls whose credentials have lapsed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final, TypeAlias

from distributor.dispatch.ports import RevocationStore
from distributor.errors import DistributorError, Unauthenticated, Unavailable
from distributor.model.revocation import NOTHING_REVOKED, Credential, Revocation, RevocationList
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage

logger = get_logger()

LOOK_INTERVAL_SECONDS: Final = 2.0
"""A revocation takes effect on every replica within so long, and the time of one exchange with Valkey."""


class Lapse(StrEnum):
    """Why a credential no longer counts."""

    REVOKED = "revoked"
    EXPIRED = "expired"
    KEY_REMOVED = "key_removed"
    PERMISSIONS_CHANGED = "permissions_changed"

    def error(self) -> DistributorError:
        """The error that ends what the credential has begun."""
        match self:
            case Lapse.REVOKED:
                return Unauthenticated("the credentials have been revoked", reason="CREDENTIALS_REVOKED")
            case Lapse.EXPIRED:
                return Unauthenticated(
                    "the credentials have expired; connect with new ones", reason="CREDENTIALS_EXPIRED"
                )
            case Lapse.KEY_REMOVED:
                return Unauthenticated(
                    "the key that signed the token is no longer accepted; connect with a new token",
                    reason="TOKEN_KEY_REMOVED",
                )
            case Lapse.PERMISSIONS_CHANGED:
                # The caller is still known: it must come back with what it may do now.
                return Unavailable("the service's permissions have changed; call again", reason="PERMISSIONS_CHANGED")


Standing: TypeAlias = Callable[[Credential], Lapse | None]


class _Guarded:
    """A stream, and the revocation of its agent that was known when it began."""

    __slots__ = ("credential", "earlier", "end")

    def __init__(self, credential: Credential, end: Callable[[Lapse], None], earlier: Revocation | None) -> None:
        self.credential = credential
        self.end = end
        self.earlier = earlier


class Revocations:
    """The list as this process knows it, and the streams that depend on it. One loop per replica or bridge.

    While Valkey is away, the last list stays in force. Without a store, nothing is revoked.
    """

    def __init__(
        self, store: RevocationStore | None = None, look_interval_seconds: float = LOOK_INTERVAL_SECONDS
    ) -> None:
        self._store = store
        self._look_interval_seconds = look_interval_seconds
        self._guarded: dict[int, _Guarded] = {}
        self._outage = Outage("read the revocations")
        self.standing: Standing = _stands
        """Tells whether what a credential rests on besides this list, such as a key, is still there."""
        self.list: RevocationList = NOTHING_REVOKED
        """The list as it was last read."""

    def __len__(self) -> int:
        return len(self._guarded)

    def is_revoked(self, token_id: str) -> bool:
        """Whether the token with this id (`jti`) is revoked."""
        return self.list.is_token_revoked(token_id)

    def check(self, credential: Credential) -> None:
        """Raise the error of the lapse if the credential has lapsed."""
        lapse = self._lapse(credential, time.time())
        if lapse is not None:
            raise lapse.error()

    @contextmanager
    def guard(self, credential: Credential, end: Callable[[Lapse], None]) -> Iterator[None]:
        """Call `end` if the credential lapses inside this block. Raises the error of the lapse if it has before."""
        self.check(credential)
        guarded = _Guarded(credential, end, self.list.agent(credential.agent_id))
        self._guarded[id(guarded)] = guarded
        try:
            yield
        finally:
            self._guarded.pop(id(guarded), None)

    async def load(self) -> None:
        """Read the list before anything is served. Raises the errors of the store."""
        await self.run_once(time.time())

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(self._look_interval_seconds)
            try:
                await self.run_once(time.time())
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                self.end_lapsed(time.time())

    async def run_once(self, now: float) -> int:
        """Read the list if it has changed and end the streams that depend on what no longer counts; return how many.

        `now` is in seconds since the epoch.
        """
        changed = await self._store.changed_since(self.list.version) if self._store is not None else None
        if changed is not None:
            self.list = changed
            logger.info("revocations changed", version=changed.version, entries=len(changed))
        return self.end_lapsed(now)

    def end_lapsed(self, now: float) -> int:
        """End the streams whose credentials do not count any more; return how many."""
        lapsed = [
            (guarded, lapse)
            for guarded in self._guarded.values()
            if (lapse := self._lapse(guarded.credential, now) or self._revoked_since(guarded)) is not None
        ]
        for guarded, lapse in lapsed:
            self._guarded.pop(id(guarded), None)
            guarded.end(lapse)
        return len(lapsed)

    def _lapse(self, credential: Credential, now: float) -> Lapse | None:
        if self.list.refuses(credential):
            return Lapse.REVOKED
        if credential.expires is not None and now >= credential.expires:
            return Lapse.EXPIRED
        return self.standing(credential)

    def _revoked_since(self, guarded: _Guarded) -> Lapse | None:
        """An agent's token names no enrolment: what counts is whether the agent was revoked since it connected."""
        credential = guarded.credential
        if not credential.agent_id or credential.generation is not None:
            return None
        entry = self.list.agent(credential.agent_id)
        return Lapse.REVOKED if entry is not None and entry != guarded.earlier else None


def _stands(_: Credential) -> Lapse | None:
    """A credential that rests on nothing but the list and its expiry."""
    return None
