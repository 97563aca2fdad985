"""Output from the store to those who watch it: one reader for each watched command, for all of its viewers.

Each viewer has an offset up to which it was told. A pass reads at an offset where viewers with room stand, and moves
all of them on together; who came late or has no room stands further behind and is served by passes of its own. So
nothing is read for a viewer that would not take it, nobody waits for a slower one, and what the store no longer has
is told as a gap.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from distributor.bridge import messages
from distributor.bridge.dashboard import Change, Dashboard
from distributor.dispatch.ports import OutputLog, StoredChunk
from distributor.errors import DistributorError
from distributor.observability.logging import get_logger

logger = get_logger()

BYTES_IN_A_READ: Final = 65_536
READS_AT_ONCE: Final = 16
WAIT_AFTER_FAILURE_SECONDS: Final = 0.5


@dataclass(slots=True)
class _Viewer:
    offset: int
    ending: Change | None = None
    waiting: bool = False
    """It was told everything up to `offset`, or has no room: there is nothing to do for it until somebody says so."""


class OutputPump:
    """The reader of one command. Lives from its first viewer to its last."""

    def __init__(self, command_id: str, log: OutputLog, reads: asyncio.Semaphore) -> None:
        self._command_id = command_id
        self._log = log
        self._reads = reads
        self._awake = asyncio.Event()
        self.viewers: dict[Dashboard, _Viewer] = {}

    def wake(self, dashboard: Dashboard | None = None) -> None:
        """There may be more for this viewer, or for all."""
        for viewer in self.viewers.values() if dashboard is None else (self.viewers[dashboard],):
            viewer.waiting = False
        self._awake.set()

    async def run(self) -> None:
        """Serve until there are no viewers."""
        while self.viewers:
            await self._awake.wait()
            self._awake.clear()
            try:
                while await self.run_once():
                    pass
            except DistributorError as error:
                logger.warning("cannot read output", command_id=self._command_id, error=str(error))
                await asyncio.sleep(WAIT_AFTER_FAILURE_SECONDS)
                self.wake()

    async def run_once(self) -> bool:
        """One read, for all who stand where the one furthest behind does. False if nobody can be served."""
        offsets = [viewer.offset for viewer in self.viewers.values() if not viewer.waiting]
        if not offsets:
            return False
        offset = min(offsets)
        served = {
            dashboard: viewer
            for dashboard, viewer in self.viewers.items()
            if not viewer.waiting and viewer.offset == offset
        }
        # Whoever is woken from here on may have to be served again.
        for viewer in served.values():
            viewer.waiting = True
        # What came before an ending is in the store by now, so a read that begins now and finds nothing has seen all.
        ending = {dashboard for dashboard, viewer in served.items() if viewer.ending is not None}
        async with self._reads:
            chunks = await self._log.read(self._command_id, offset, BYTES_IN_A_READ)
        served = {dashboard: viewer for dashboard, viewer in served.items() if self.viewers.get(dashboard) is viewer}
        for chunk in chunks:
            tail = messages.output_tail(self._command_id, chunk)
            for dashboard, viewer in served.items():
                self._tell(dashboard, viewer, chunk, tail)
        for dashboard, viewer in served.items():
            if chunks:
                viewer.waiting = viewer.waiting and viewer.offset != chunks[-1].offset + len(chunks[-1].data)
            elif dashboard in ending and viewer.ending is not None:
                del self.viewers[dashboard]
                dashboard.end_output(self._command_id)
                dashboard.tell_change(viewer.ending)
        return True

    def _tell(self, dashboard: Dashboard, viewer: _Viewer, chunk: StoredChunk, tail: str) -> None:
        """Give a viewer the next chunk; one without room stays where it is, and misses those that follow as well."""
        if viewer.offset < chunk.offset and viewer.offset == self._reached(viewer, chunk):
            if not dashboard.tell_gap(self._command_id, viewer.offset, chunk.offset):
                return
            viewer.offset = chunk.offset
        end = chunk.offset + len(chunk.data)
        if viewer.offset == chunk.offset and dashboard.tell_output(self._command_id, chunk.offset, end, tail):
            viewer.offset = end
