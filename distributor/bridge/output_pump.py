"""Output from the store to those who watch it: one reader for each watched command, for all of its viewers.

Each viewer has an offset up to which it was told. A pass reads at an offset where viewers with room stand, and moves
all of them on together; who came late or has no room stands further behind and is served by passes of its own. So
nothing is read for a viewer that would not take it, nobody waits for a slower one, and what the store no longer has
is told as a gap.
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
from distributor.model.delivery import StoredChunk
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage
from distributor.tasks import stop_tasks

BYTES_IN_A_READ: Final = 65_536
READS_AT_ONCE: Final = 16


@dataclass(slots=True)
class _Viewer:
    offset: int
    ending: Change | None = None
    waiting: bool = False
    """It was told all there is, or has no room: nothing to do for it until it is woken."""


class Reading(NamedTuple):
    """What the readers of all commands share: so many of them read at once, and their failures are one."""

    turns: asyncio.Semaphore
    outage: Outage


class OutputPump:
    """The reader of one command. Lives from its first viewer to its last."""

    def __init__(
        self, command_id: str, log: OutputLog, shared: Reading, ended: Callable[[Dashboard, str], None]
    ) -> None:
        self._command_id = command_id
        self._log = log
        self._shared = shared
        self._ended = ended
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
                self._shared.outage.failed(error)
                await asyncio.sleep(WAIT_AFTER_FAILURE_SECONDS)
                self.wake()

    async def run_once(self) -> bool:
        """One read, for all who stand where the one furthest behind does. False if nobody can be served."""
        served = self._next()
        if not served:
            return False
        offset = next(iter(served.values())).offset
        # What came before an ending is in the store by now, so a read that begins now and finds nothing has seen all.
        ended = {dashboard for dashboard, viewer in served.items() if viewer.ending is not None}
        async with self._shared.turns:
            chunks = await self._log.read(self._command_id, offset, BYTES_IN_A_READ)
        self._shared.outage.over()
        served = {dashboard: viewer for dashboard, viewer in served.items() if self.viewers.get(dashboard) is viewer}
        for chunk in chunks:
            tail = messages.output_tail(self._command_id, chunk)
            end = chunk.offset + len(chunk.data)
            # Who has no room stays where it is, and so is not given what comes after.
            for dashboard, viewer in served.items():
                if viewer.offset == offset:
                    self._tell(dashboard, viewer, chunk, tail)
            offset = end
        for dashboard, viewer in served.items():
            if chunks and viewer.offset == offset:
                viewer.waiting = False
            elif not chunks and dashboard in ended:
                self._end(dashboard, viewer)
        return True

    def _next(self) -> dict[Dashboard, _Viewer]:
        """Those furthest behind of the viewers that can be served. They wait from now on, until something is new."""
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

    def _tell(self, dashboard: Dashboard, viewer: _Viewer, chunk: StoredChunk, tail: str) -> None:
        if viewer.offset < chunk.offset:
            if not dashboard.tell_gap(self._command_id, viewer.offset, chunk.offset):
                return
            viewer.offset = chunk.offset
        end = chunk.offset + len(chunk.data)
        if dashboard.tell_output(self._command_id, chunk.offset, end, tail):
            viewer.offset = end

    def _end(self, dashboard: Dashboard, viewer: _Viewer) -> None:
        end = viewer.ending.output_bytes if viewer.ending is not None else 0
        if viewer.offset < end:
            # The end of it could not be kept: the store was full.
            if not dashboard.tell_gap(self._command_id, viewer.offset, end):
                return
            viewer.offset = end
        del self.viewers[dashboard]
        self._ended(dashboard, self._command_id)
        dashboard.end_output(self._command_id)
        if viewer.ending is not None:
            dashboard.tell_change(viewer.ending)


class OutputPumps:
    """The readers of all watched commands, and who watches what. Owns their tasks."""

    def __init__(self, log: OutputLog) -> None:
        self._log = log
        self._reading = Reading(asyncio.Semaphore(READS_AT_ONCE), Outage("read output"))
        self._pumps: dict[str, OutputPump] = {}
        self._followed: dict[Dashboard, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, dashboard: Dashboard, command_id: str, offset: int) -> None:
        """Tell `dashboard` the output of a command from `offset` on; anew where it is told already."""
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
        """Whether `dashboard` is told the output of a command."""
        pump = self._pumps.get(command_id)
        return pump is not None and dashboard in pump.viewers

    def count(self, dashboard: Dashboard) -> int:
        """The output of how many commands `dashboard` is told."""
        return len(self._followed.get(dashboard, ()))

    def arrived(self, command_id: str) -> None:
        """There is more output of a command."""
        pump = self._pumps.get(command_id)
        if pump is not None:
            pump.wake()

    def end(self, dashboard: Dashboard, command_id: str, ending: Change) -> bool:
        """Tell `dashboard` how a command ended, after its output. False where it is not told its output."""
        pump = self._pumps.get(command_id)
        viewer = pump.viewers.get(dashboard) if pump is not None else None
        if pump is None or viewer is None:
            return False
        # One that was read is as new as any, and what events say after it is not told again.
        if viewer.ending is None or not ending.position:
            viewer.ending = ending
        dashboard.await_ending(command_id)
        pump.wake(dashboard)
        return True

    def unfollow(self, dashboard: Dashboard, command_id: str) -> None:
        """No more output of a command. An ending that waits for it is told now."""
        pump = self._pumps.get(command_id)
        viewer = pump.viewers.pop(dashboard, None) if pump is not None else None
        if pump is None or viewer is None:
            return
        self._forget(dashboard, command_id)
        dashboard.begin_output(command_id)
        dashboard.end_output(command_id)
        pump.wake()
        if viewer.ending is not None:
            dashboard.tell_change(viewer.ending)

    def roomy(self, dashboard: Dashboard) -> None:
        """`dashboard` has room again."""
        for command_id in self._followed.get(dashboard, ()):
            self._pumps[command_id].wake(dashboard)

    def drop(self, dashboard: Dashboard) -> None:
        """Forget everything about `dashboard`."""
        for command_id in self._followed.pop(dashboard, ()):
            pump = self._pumps[command_id]
            del pump.viewers[dashboard]
            pump.wake()

    async def stop(self) -> None:
        """End all readers."""
        await stop_tasks(self._tasks)

    def _forget(self, dashboard: Dashboard, command_id: str) -> None:
        self._followed[dashboard].discard(command_id)

    async def _run(self, command_id: str, pump: OutputPump) -> None:
        try:
            await pump.run()
        finally:
            # No await since the pump saw that it has no viewers, so nobody can have joined it since.
            del self._pumps[command_id]
            for dashboard in pump.viewers:
                self._forget(dashboard, command_id)
