"""Streams output from the store to its viewers, with one reader per watched command.

Each viewer has the offset up to which output was queued for it. A pass reads at the lowest offset of viewers with room
and advances all viewers at that offset; late or slow viewers are served by their own passes. So nothing is read for a
viewer without room, no viewer waits for a slower one, and bytes no longer stored are reported as a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from distributor.bridge import messages
from distributor.bridge.dashboard import Change, Dashboard
from distributor.dispatch.ports import OutputLog
from distributor.errors import DistributorError
from distributor.model.delivery import OutputChunk
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage
from distributor.tasks import stop_tasks

MAX_READ_BYTES: Final = 65_536
MAX_CONCURRENT_READS: Final = 16


@dataclass(slots=True)
class _Viewer:
    offset: int
    ending: Change | None = None
    waiting: bool = False
    """It is up to date or has no room: skip it until woken."""


class ReadLimits(NamedTuple):
    """Shared by all readers: the limit on concurrent reads, the outage log, and the delay after a failure."""

    turns: asyncio.Semaphore
    outage: Outage
    retry_seconds: float


class OutputPump:
    """Reads the output of one command while it has viewers."""

    def __init__(
        self, command_id: str, log: OutputLog, shared: ReadLimits, ended: Callable[[Dashboard, str], None]
    ) -> None:
        self._command_id = command_id
        self._log = log
        self._shared = shared
        self._ended = ended
        self._awake = asyncio.Event()
        self.viewers: dict[Dashboard, _Viewer] = {}

    def wake(self, dashboard: Dashboard | None = None) -> None:
        """Wake one viewer, or all: there may be more output."""
        for viewer in self.viewers.values() if dashboard is None else (self.viewers[dashboard],):
            viewer.waiting = False
        self._awake.set()

    async def run(self) -> None:
        """Serve until the last viewer leaves."""
        while self.viewers:
            await self._awake.wait()
            self._awake.clear()
            try:
                while await self.run_once():
                    pass
            except DistributorError as error:
                self._shared.outage.failed(error)
                await asyncio.sleep(self._shared.retry_seconds)
                self.wake()

    async def run_once(self) -> bool:
        """Read once for all viewers at the lowest offset. Return False if none can be served."""
        served = self._next()
        if not served:
            return False
        offset = next(iter(served.values())).offset
        # Output precedes its ending in the store, so a read that starts now and is empty means the end.
        ended = {dashboard for dashboard, viewer in served.items() if viewer.ending is not None}
        async with self._shared.turns:
            chunks = await self._log.read(self._command_id, offset, MAX_READ_BYTES)
        self._shared.outage.recovered()
        served = {dashboard: viewer for dashboard, viewer in served.items() if self.viewers.get(dashboard) is viewer}
        for chunk in chunks:
            tail = messages.output_tail(self._command_id, chunk)
            end = chunk.offset + len(chunk.data)
            # A viewer without room keeps its offset and so gets no later chunk.
            for dashboard, viewer in served.items():
                if viewer.offset == offset:
                    self._send(dashboard, viewer, chunk, tail)
            offset = end
        for dashboard, viewer in served.items():
            if chunks and viewer.offset == offset:
                viewer.waiting = False
            elif not chunks and dashboard in ended:
                self._end(dashboard, viewer)
        return True

    def _next(self) -> dict[Dashboard, _Viewer]:
        """The ready viewers at the lowest offset, now marked as waiting until woken."""
        ready = {
            dashboard: viewer
            for dashboard, viewer in self.viewers.items()
            if not viewer.waiting and dashboard.has_room_for_output()
        }
        lowest = min((viewer.offset for viewer in ready.values()), default=0)
        served = {dashboard: viewer for dashboard, viewer in ready.items() if viewer.offset == lowest}
        for viewer in served.values():
            viewer.waiting = True
        return served

    def _send(self, dashboard: Dashboard, viewer: _Viewer, chunk: OutputChunk, tail: str) -> None:
        if viewer.offset < chunk.offset:
            if not dashboard.send_gap(self._command_id, viewer.offset, chunk.offset):
                return
            viewer.offset = chunk.offset
        end = chunk.offset + len(chunk.data)
        if dashboard.send_output(self._command_id, chunk.offset, end, tail):
            viewer.offset = end

    def _end(self, dashboard: Dashboard, viewer: _Viewer) -> None:
        end = viewer.ending.output_bytes if viewer.ending is not None else 0
        if viewer.offset < end:
            # The store was full, so the end of the output was not stored.
            if not dashboard.send_gap(self._command_id, viewer.offset, end):
                return
            viewer.offset = end
        del self.viewers[dashboard]
        self._ended(dashboard, self._command_id)
        dashboard.end_output(self._command_id)
        if viewer.ending is not None:
            dashboard.send_change(viewer.ending)


class OutputPumps:
    """The readers of all watched commands. Owns their tasks."""

    def __init__(self, log: OutputLog, retry_seconds: float = WAIT_AFTER_FAILURE_SECONDS) -> None:
        self._log = log
        self._reading = ReadLimits(asyncio.Semaphore(MAX_CONCURRENT_READS), Outage("read output"), retry_seconds)
        self._pumps: dict[str, OutputPump] = {}
        self._followed: dict[Dashboard, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, dashboard: Dashboard, command_id: str, offset: int) -> None:
        """Send a dashboard the output of a command from `offset`; restart there if it already follows it."""
        pump = self._pumps.get(command_id)
        if pump is None:
            pump = self._pumps[command_id] = OutputPump(command_id, self._log, self._reading, self._forget)
            task = asyncio.create_task(self._run(command_id, pump), name=f"output of {command_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        before = pump.viewers.get(dashboard)
        dashboard.begin_output(command_id)
        pump.viewers[dashboard] = _Viewer(offset, before.ending if before is not None else None)
        self._followed.setdefault(dashboard, set()).add(command_id)
        pump.wake(dashboard)

    def follows(self, dashboard: Dashboard, command_id: str) -> bool:
        """Whether `dashboard` follows the output of a command."""
        pump = self._pumps.get(command_id)
        return pump is not None and dashboard in pump.viewers

    def followed_by(self, matches: Callable[[Dashboard], bool]) -> dict[Dashboard, frozenset[str]]:
        """The commands whose output each dashboard that matches follows; those that follow none are omitted."""
        return {one: frozenset(ids) for one, ids in self._followed.items() if ids and matches(one)}

    def count(self, dashboard: Dashboard) -> int:
        """The number of commands whose output `dashboard` follows."""
        return len(self._followed.get(dashboard, ()))

    def notify(self, command_id: str) -> None:
        """Wake the reader of a command that has new output."""
        pump = self._pumps.get(command_id)
        if pump is not None:
            pump.wake()

    def end(self, dashboard: Dashboard, command_id: str, ending: Change) -> bool:
        """Send the ending of a command after its output. Return False if `dashboard` does not follow the output."""
        pump = self._pumps.get(command_id)
        viewer = pump.viewers.get(dashboard) if pump is not None else None
        if pump is None or viewer is None:
            return False
        if viewer.ending is None:
            viewer.ending = ending
        dashboard.expect_ending(command_id)
        pump.wake(dashboard)
        return True

    def unfollow(self, dashboard: Dashboard, command_id: str) -> None:
        """Stop sending the output of a command, and send an ending that waited for it."""
        pump = self._pumps.get(command_id)
        viewer = pump.viewers.pop(dashboard, None) if pump is not None else None
        if pump is None or viewer is None:
            return
        self._forget(dashboard, command_id)
        dashboard.begin_output(command_id)
        dashboard.end_output(command_id)
        pump.wake()
        if viewer.ending is not None:
            dashboard.send_change(viewer.ending)

    def resume(self, dashboard: Dashboard) -> None:
        """Resume sending to a dashboard that has room again."""
        for command_id in self._followed.get(dashboard, ()):
            self._pumps[command_id].wake(dashboard)

    def drop(self, dashboard: Dashboard) -> None:
        """Remove a disconnected dashboard."""
        for command_id in self._followed.pop(dashboard, ()):
            pump = self._pumps[command_id]
            del pump.viewers[dashboard]
            pump.wake()

    async def stop(self) -> None:
        """Stop all readers."""
        await stop_tasks(self._tasks)

    def _forget(self, dashboard: Dashboard, command_id: str) -> None:
        self._followed[dashboard].discard(command_id)

    async def _run(self, command_id: str, pump: OutputPump) -> None:
        try:
            await pump.run()
        finally:
            # No await since the pump found no viewers, so none can have joined.
            del self._pumps[command_id]
            for dashboard in pump.viewers:
                self._forget(dashboard, command_id)
