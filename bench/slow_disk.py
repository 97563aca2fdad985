"""A slow, full or broken disk for a Valkey, and what a loss of power would leave on it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")
_CONTROL: Final = struct.Struct("=iii")


class SlowDisk:
    """Affects the append-only files of each program that runs with `environment`, from then on whenever it is set.

    Compiles a library for LD_PRELOAD into `folder`, whose path must have neither spaces nor colons.
    """

    def __init__(self, folder: Path) -> None:
        """Raises RuntimeError if there is no C compiler, or the library does not compile."""
        self._folder = folder.resolve()
        self._library = self._folder / "slow_disk.so"
        self._control = self._folder / "control"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.set()
        compiler = shutil.which("gcc")
        if compiler is None:
            raise RuntimeError("the slow disk needs gcc on PATH (on Debian: apt-get install gcc)")
        arguments = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(self._library), str(SOURCE), "-ldl"]
        compiled = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if compiled.returncode:
            raise RuntimeError(f"gcc cannot compile {SOURCE}:\n{compiled.stderr}")

    def set(self, delay_ms: int = 0, *, broken: bool = False, full: bool = False) -> None:
        """Let each fsync take `delay_ms` longer, each fsync fail (`broken`), or each write fail (`full`)."""
        file = os.open(self._control, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, _CONTROL.pack(delay_ms, broken, full), 0)
        finally:
            os.close(file)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to be affected."""
        return {"LD_PRELOAD": str(self._library), "SLOW_DISK": str(self._folder)}

    def server_on_path(self, binary: Path, preloaded: Path | None = None) -> Path:
        """A folder for the beginning of PATH, whose `valkey-server` is `binary` on this disk.

        `preloaded` is another library to load, such as an allocator.
        """
        environment: Mapping[str, str] = self.environment
        if preloaded is not None:
            environment = {**environment, "LD_PRELOAD": f"{self._library}:{preloaded}"}
        settings = " ".join(f"{name}='{value}'" for name, value in environment.items())
        script = self._folder / "bin" / "valkey-server"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{settings} exec '{binary}' \"$@\"\n")
        script.chmod(0o755)
        return script.parent

    def synced_bytes(self, file: Path) -> int:
        """How much of a file is certain to be on disk."""
        synced = 0
        for line in self._synced():
            size, _, path = line.partition(" ")
            if path == str(file.resolve()):
                synced = max(synced, int(size))
        return synced

    def syncs(self) -> int:
        """Number of successful fsyncs so far."""
        return len(self._synced())

    def after_power_loss(self, data_dir: Path, target: Path, synced: Mapping[str, int] | None = None) -> None:
        """Copy a data folder as a loss of power might leave it now: without anything that was not fsynced.

        `synced` is the size of each file that is certain to be on disk, if another program than Valkey fsyncs them.
        Valkey itself fsyncs base files and manifests before it uses them.
        """
        target.mkdir()
        source = data_dir / "appendonlydir"
        files = list(source.glob("*.incr.aof"))
        if synced is None:
            synced = {file.name: self.synced_bytes(file) for file in files}
        else:
            synced = {file.name: synced.get(file.name, 0) for file in files}
        shutil.copytree(source, target / "appendonlydir")
        for name, size in synced.items():
            os.truncate(target / "appendonlydir" / name, size)

    def _synced(self) -> list[str]:
        record = self._folder / "synced"
        return record.read_text(encoding="utf-8").splitlines() if record.exists() else []
