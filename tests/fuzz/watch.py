"""Watches the system while it is fuzzed: others' round trips, memory, logs, and that every process still runs."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from bench.findings import percentile, slope
from bench.proc_files import resident_bytes
from tests.fuzz.world import World
from tests.support.launched_server import LaunchedServer

SAMPLE_SECONDS: Final = 0.25
SLOWEST_SECONDS: Final = 0.5
"""A p99 below this is no disturbance, whatever it was without faults: the machine may be busy with other tests."""
MOST_TIMES_SLOWER: Final = 5.0
WARM_UP_SHARE: Final = 0.3
FEWEST_SAMPLES: Final = 10
MOST_GROWTH_BYTES: Final = 64 << 20
"""Of a process after its warm-up, over the whole run."""
BAD_LINES: Final = ("Traceback", '"level": "error"', '"level": "critical"', "Exception ignored", "Segmentation")


class Slice(NamedTuple):
    """A part of the run, in seconds of the monotonic clock."""

    begun: float
    ended: float
    sound: bool


class RoundTrips(NamedTuple):
    """p99 of the probe's round trips in seconds, beside sound load and beside faults, and their numbers."""

    what: str
    sound: float
    fuzzed: float
    counts: tuple[int, int]

    @property
    def disturbed(self) -> bool:
        """Whether faults slow others more than sound load does, and noticeably."""
        return self.fuzzed > max(SLOWEST_SECONDS, MOST_TIMES_SLOWER * self.sound)

    def __str__(self) -> str:
        ratio = self.fuzzed / self.sound if self.sound else 0.0
        return (
            f"p99 of a {self.what}: {self.fuzzed * 1_000:.1f} ms ({self.counts[1]}) beside faults, "
            f"{self.sound * 1_000:.1f} ms ({self.counts[0]}) beside sound load, {ratio:.2f} times"
        )


class Watch:
    """Samples while `run` runs; `complaints` and `figures` judge afterwards."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._memory: dict[str, list[tuple[float, float]]] = {name: [] for name in world.pids}
        self._slices: list[Slice] = []

    async def run(self) -> None:
        """Sample memory until cancelled, or a process has ended."""
        while all(one.process.returncode is None for one in self._programs().values()):
            for name, pid in self._world.pids.items():
                self._memory[name].append((time.monotonic(), resident_bytes(pid)))
            await asyncio.sleep(SAMPLE_SECONDS)

    @contextmanager
    def slice(self, sound: bool) -> Iterator[None]:
        """Note what kind of load runs inside the context."""
        begun = time.monotonic()
        yield
        self._slices.append(Slice(begun, time.monotonic(), sound))

    def figures(self) -> list[str]:
        """Return the measured figures, a line each."""
        return [*map(str, self._round_trips()), *(self._growth_line(name) for name in self._memory)]

    async def complaints(self) -> list[str]:
        """Stop the processes as an operator does; return everything that is wrong with them."""
        found = [f"{line}: others were disturbed" for line in self._round_trips() if line.disturbed]
        found += [f"{self._growth_line(name)}: memory grows" for name in self._memory if self._grows(name)]
        for name, program in self._programs().items():
            if program.process.returncode is not None:
                found.append(f"the {name} ended with {program.process.returncode}: {program.everything[-4_000:]}")
        for name, program in self._programs().items():
            found += [f"the {name} logged {line[:4_000]}" for line in _bad_lines(program)]
        return found + await self._unclean_ends()

    async def _unclean_ends(self) -> list[str]:
        found = []
        for name in ("bridge", "server"):
            program = self._programs()[name]
            if program.process.returncode is None:
                program.process.send_signal(signal.SIGTERM)
                if code := await program.ended():
                    found.append(f"the {name} ended with {code} on SIGTERM: {program.everything[-4_000:]}")
        return found

    def _programs(self) -> dict[str, LaunchedServer]:
        return {"server": self._world.server, "bridge": self._world.bridge, "probe": self._world.probe}

    def _round_trips(self) -> Iterator[RoundTrips]:
        lines = [line.split() for line in self._world.probe.stdout]
        for what in ("heartbeat", "command"):
            samples = [(float(end), float(took)) for kind, end, took in lines if kind == what]
            sound, fuzzed = self._of(samples, True), self._of(samples, False)
            if sound and fuzzed:
                yield RoundTrips(what, percentile(sound, 99), percentile(fuzzed, 99), (len(sound), len(fuzzed)))

    def _of(self, samples: Sequence[tuple[float, float]], sound: bool) -> list[float]:
        return sorted(
            took
            for ended, took in samples
            if any(one.begun <= ended - took and ended <= one.ended for one in self._slices if one.sound is sound)
        )

    def _grown(self, name: str) -> float:
        points = self._settled(name) or [(0.0, 0.0)]
        third = max(1, len(points) // 3)
        first, last = (sum(size for _, size in part) / third for part in (points[:third], points[-third:]))
        return last - first

    def _grows(self, name: str) -> bool:
        return self._grown(name) > MOST_GROWTH_BYTES

    def _growth_line(self, name: str) -> str:
        points = self._settled(name)
        if not points:
            return f"memory of the {name}: too few samples"
        return (
            f"memory of the {name}: {points[-1][1] / 2**20:.0f} MiB, grew by {self._grown(name) / 2**20:+.1f} MiB, "
            f"slope {slope(points) * 60 / 2**20:+.1f} MiB/min"
        )

    def _settled(self, name: str) -> list[tuple[float, float]]:
        points = self._memory[name]
        return points[int(len(points) * WARM_UP_SHARE) :] if len(points) >= FEWEST_SAMPLES else []


def _bad_lines(program: LaunchedServer) -> list[str]:
    return [line for line in (*program.stdout, *program.stderr) if any(bad in line for bad in BAD_LINES)]
