"""Reads CPU time and memory of processes from /proc."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CORES = len(os.sched_getaffinity(0))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its ended children: Valkey rewrites its AOF in one."""
    # The second field is the program name in parentheses, which may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def waits(pid: int) -> Counter[str]:
    """Return how often the threads of a process have waited since they started, by name of the thread.

    Each wait is a voluntary context switch and ends with a wake-up.
    """
    counts: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
        except (FileNotFoundError, ProcessLookupError):
            # The thread has just ended.
            continue
        counts[fields["Name"].strip()] += int(fields["voluntary_ctxt_switches"])
    return counts


def machine_cpu_seconds() -> float:
    """Return the CPU time of the whole machine, including steal."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS_PER_SECOND


class CpuMeter:
    """Measures the CPU time of several processes from its creation on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._begun = self._used()
        self._machine_begun = machine_cpu_seconds()
        self._clock_begun = time.perf_counter()

    def microseconds_per(self, count: int) -> dict[str, float]:
        """Return CPU microseconds per command for `count` commands, by process name."""
        return {name: seconds / count * 1_000_000 for name, seconds in self.seconds().items()}

    def seconds(self) -> dict[str, float]:
        """Return CPU seconds by process name."""
        return {name: seconds - self._begun[name] for name, seconds in self._used().items()}

    def elapsed(self) -> float:
        """Return the seconds since the measurement began."""
        return time.perf_counter() - self._clock_begun

    def percent_by_others(self) -> float:
        """Return the percentage of all cores used by other processes, which disturb the measurement."""
        others = machine_cpu_seconds() - self._machine_begun - sum(self.seconds().values())
        return max(0.0, others / self.elapsed() / CORES * 100)

    def _used(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}
