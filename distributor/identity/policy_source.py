"""The policy in effect. Follows its file: a change takes effect without a restart, a faulty one does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from distributor.errors import ConfigurationError
from distributor.identity.service_access import services_of
from distributor.observability.logging import get_logger
from distributor.settings.policy_file import NO_POLICY, Policy, load_policy
from distributor.settings.policy_text import FileStamp, stamp_of

logger = get_logger()

CHECK_SECONDS: Final = 2.0


class PolicySource:
    """Reads a policy file at once, and again when it has changed. Belongs to one event loop.

    `current` is always a complete, valid policy: the last one that could be loaded.
    """

    def __init__(self, path: Path | None = None, check_seconds: float = CHECK_SECONDS) -> None:
        """Raises ConfigurationError if the file cannot be used. None has no policy. Reads files."""
        self._path = path
        self._check_seconds = check_seconds
        self.current: Policy = load_policy(path) if path else NO_POLICY
        self.services = services_of(self.current.services, str(path))
        """What each service with a client certificate may do."""
        self._problem = ""
        self.on_change: Callable[[Policy], None] = _nothing
        """Called with each policy that takes effect after the first."""

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(self._check_seconds)
            await self.run_once()

    async def run_once(self) -> bool:
        """Load the policy if a file has changed; return whether another is in effect. Logs a fault once."""
        if self._path is None or not await asyncio.to_thread(self._changed):
            return False
        try:
            policy = await asyncio.to_thread(load_policy, self._path)
            services = services_of(policy.services, str(self._path))
        except ConfigurationError as error:
            if error.message != self._problem:
                logger.error("the policy file cannot be used; the last one stays in effect", cause=error.message)
            self._problem = error.message
            return False
        self._problem = ""
        before, self.current, self.services = self.current, policy, services
        if policy.digest == before.digest:
            return False
        self.on_change(policy)
        logger.info("policy file loaded", path=str(self._path), types=len(policy.types.types))
        return True

    def _changed(self) -> bool:
        return bool(self._problem) or any(_stamp(path) != stamp for path, stamp in self.current.files)


def _nothing(policy: Policy) -> None:
    pass


def _stamp(path: Path) -> FileStamp | None:
    try:
        return stamp_of(path.stat())
    except OSError:
        return None
