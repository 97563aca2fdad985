"""Runs `distributor` with a profiler or without uvloop.

Arguments: a profile file or "", the event loop ("asyncio" or "fastest"), then the arguments of `distributor`.
"""

from __future__ import annotations

import cProfile
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run `distributor` with the remaining arguments; write the profile when it ends by SIGTERM."""
    profile_file, loop, *sys.argv[1:] = sys.argv[1:]
    if loop == "asyncio":
        # Makes an import of uvloop fail, as if it were not installed.
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    if not profile_file:
        _serve()
        return
    Path(profile_file).parent.mkdir(parents=True, exist_ok=True)
    profile = cProfile.Profile()
    try:
        profile.runcall(_serve)
    finally:
        profile.dump_stats(profile_file)


def _serve() -> None:
    runpy.run_module("distributor.cli.distributor", run_name="measured")["main"]()


if __name__ == "__main__":
    main()
