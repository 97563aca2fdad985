"""What Linux says of processes and of the machine in /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CORES = len(os.sched_getaffinity(0))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, and of its children that have ended: Valkey rewrites its file in one."""
    # The name of the program comes second, in brackets, and may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def machine_cpu_seconds() -> float:
    """CPU time of everything on this machine so far, and what a hypervisor gave to others."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS_PER_SECOND


class CpuMeter:
    """CPU time of several processes from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._begun = self._used()
        self._machine_begun = machine_cpu_seconds()
        self._clock_begun = time.perf_counter()

    def microseconds_per(self, count: int) -> dict[str, float]:
        """Microseconds of each process for each of so many commands, by the name of the process."""
        return {name: seconds / count * 1_000_000 for name, seconds in self._seconds().items()}

    def percent_by_others(self) -> float:
        """Share of all cores that processes took which are none of these: what disturbed the measurement."""
        others = machine_cpu_seconds() - self._machine_begun - sum(self._seconds().values())
        return max(0.0, others / (time.perf_counter() - self._clock_begun) / CORES * 100)

    def _used(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def _seconds(self) -> dict[str, float]:
        return {name: seconds - self._begun[name] for name, seconds in self._used().items()}
