"""Describes the machine and the software versions of a measurement."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import distributor
from bench.proc_files import CORES

PACKAGES = ("grpcio", "protobuf", "valkey", "libvalkey", "uvloop")


def machine() -> dict[str, str | int]:
    """Return processor, cores, memory and kernel."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": CORES,
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the version of each package, "none" if not installed."""
    return {
        "distributor": distributor.__version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
