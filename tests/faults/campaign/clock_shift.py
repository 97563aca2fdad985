"""Wall clocks that are wrong: each program has its own, which may jump at any time."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")
_SECONDS: Final = struct.Struct("=q")
_BOTH: Final = struct.Struct("=qq")


def compiled(folder: Path) -> Path:
    """The library for LD_PRELOAD. Raises RuntimeError if there is no C compiler, or it does not compile."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("clocks cannot be set off without gcc on PATH (on Debian: apt-get install gcc)")
    library = folder / "clock_shift.so"
    arguments = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gcc cannot compile {SOURCE}:\n{done.stderr}")
    return library


class ClockShift:
    """The wall clock of one program that runs with `environment`."""

    def __init__(self, library: Path, name: str) -> None:
        self._library = library
        self._control = library.with_name(f"clock-of-{name}")
        self._control.write_bytes(_BOTH.pack(0, 0))

    @property
    def environment(self) -> dict[str, str]:
        """What the program needs to have this clock."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT": str(self._control)}

    def set(self, seconds: int) -> None:
        """Let the clock jump, so that it is off by `seconds`."""
        file = os.open(self._control, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(file, _SECONDS.pack(seconds), 0)
        finally:
            os.close(file)

    @property
    def reads(self) -> int:
        """How often the program has read the clock while it was off."""
        _, reads = _BOTH.unpack(self._control.read_bytes())
        return int(reads)
