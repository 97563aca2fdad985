"""The public keys that an agent trusts, from files that it follows: a change takes effect without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from distributor.errors import ConfigurationError
from distributor.identity.signatures import TrustedSigners, load_trusted_signers, signer_paths
from distributor.model.signed_content import SignedContent
from distributor.observability.logging import get_logger
from distributor.settings.policy_text import FileStamp, stamp_of

logger = get_logger()

CHECK_SECONDS: Final = 2.0

_Stamps: TypeAlias = list[tuple[Path, FileStamp | None]]


class SignerFiles:
    """Reads the files at once, and again when they change. Belongs to one event loop; `verify` to any thread.

    A file that is removed is a key that no longer counts. If a file is unusable, the keys before stay in use.
    """

    def __init__(self, entries: Sequence[str], check_seconds: float = CHECK_SECONDS) -> None:
        """`entries` are as for `load_trusted_signers`. Reads files. Raises ConfigurationError if one is unusable."""
        self._entries = entries
        self._check_seconds = check_seconds
        self._stamps = self._stamped()
        self._problem = ""
        self.current: TrustedSigners = load_trusted_signers(entries)

    def verify(self, content: SignedContent, value: bytes, now_ms: int) -> None:
        """As `TrustedSigners.verify`, by the keys that count now."""
        self.current.verify(content, value, now_ms)

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(self._check_seconds)
            await self.run_once()

    async def run_once(self) -> bool:
        """Read the keys again if a file has changed; return whether that was so. Logs a fault once."""
        stamps = await asyncio.to_thread(self._stamped)
        if stamps == self._stamps and not self._problem:
            return False
        try:
            self.current = await asyncio.to_thread(load_trusted_signers, self._entries, missing_ok=True)
        except ConfigurationError as error:
            if error.message != self._problem:
                logger.error("trusted signers cannot be used; the last ones stay in effect", cause=error.message)
            self._problem = error.message
            return False
        self._stamps, self._problem = stamps, ""
        logger.info("trusted signers loaded", keys=len(self.current))
        return True

    def _stamped(self) -> _Stamps:
        return [(path, _stamp(path)) for entry in self._entries for path in signer_paths(entry)]


def _stamp(path: Path) -> FileStamp | None:
    try:
        return stamp_of(path.stat())
    except OSError:
        return None
