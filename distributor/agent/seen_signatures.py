"""The signatures of commands that this agent has received or started: none starts a second command. Does no I/O.

Those of started commands are in the journal, from the commit that has the start on, until they expire.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from distributor.agent.journal_entries import SeenSignature
from distributor.agent.refusals import refused
from distributor.v1 import agent_gateway_pb2 as gateway

MAX_SEEN: Final = 100_000
"""Signatures remembered at once, about 30 MB. No more signed commands are accepted until some have expired."""
_PURGE_FROM: Final = 1_000

Key = tuple[str, str]


class Pending(NamedTuple):
    """What the journal is to write: started signatures, and those whose commands were not started after all."""

    started: list[SeenSignature]
    unstarted: list[Key]


class SeenSignatures:
    """All signatures that are remembered. Not thread-safe."""

    def __init__(self) -> None:
        self._seen: dict[Key, SeenSignature] = {}
        self._started: set[Key] = set()
        self._unwritten: dict[Key, SeenSignature | None] = {}
        self._writing: dict[Key, SeenSignature | None] = {}
        self._purge_at = _PURGE_FROM

    def restore(self, signatures: Iterable[SeenSignature]) -> None:
        """Put back the signatures of commands that earlier processes of this agent started."""
        for signature in signatures:
            self._seen[signature.key] = signature
            self._started.add(signature.key)

    def refusal(self, signature: SeenSignature, may_run_again: bool, now_ms: int) -> gateway.Refused | None:
        """The refusal of a signed command, None if it is accepted and remembered.

        The same command may come again while it has not been started, or if it `may_run_again`.
        """
        earlier = self._seen.get(signature.key)
        if earlier is not None:
            started = signature.key in self._started and not may_run_again
            if earlier.command_id == signature.command_id and not started:
                return None
            return refused(
                gateway.REFUSAL_CODE_UNSUPPORTED, "signature_replayed", "the signature was used for a command before"
            )
        if len(self._seen) >= self._purge_at:
            self._purge(now_ms)
            if len(self._seen) >= MAX_SEEN:
                return refused(
                    gateway.REFUSAL_CODE_BUSY,
                    "busy",
                    f"the agent remembers {MAX_SEEN:,} signatures that have not expired",
                )
        self._seen[signature.key] = signature
        return None

    def started(self, signature: SeenSignature) -> None:
        """Note that the command starts: with the next commit, the journal has its signature."""
        if signature.key not in self._started:
            self._started.add(signature.key)
            self._unwritten[signature.key] = signature

    def unstarted(self, signature: SeenSignature) -> None:
        """Note that the command was not started after all."""
        if signature.key in self._started:
            self._started.discard(signature.key)
            self._unwritten[signature.key] = None

    def take(self) -> Pending:
        """Take what changed, to write it."""
        self._writing, self._unwritten = self._unwritten, {}
        started = [signature for signature in self._writing.values() if signature is not None]
        return Pending(started, [key for key, signature in self._writing.items() if signature is None])

    def failed(self) -> None:
        """Return what was taken last to the changes: it was not written."""
        self._unwritten = self._writing | self._unwritten
        self._writing = {}

    def _purge(self, now_ms: int) -> None:
        expired = [key for key, signature in self._seen.items() if signature.expires_ms <= now_ms]
        for key in expired:
            del self._seen[key]
            self._started.discard(key)
        self._purge_at = min(MAX_SEEN, max(_PURGE_FROM, 2 * len(self._seen)))
