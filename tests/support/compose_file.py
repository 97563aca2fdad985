"""The services of deploy/compose.yaml, as programs that run without a container engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.contained import Mount
from tests.support.launched_server import ROOT

COMPOSE_FILE: Final = ROOT / "deploy" / "compose.yaml"


def services() -> dict[str, dict[str, Any]]:
    """All services, with what they take over from common parts."""
    return dict(document()["services"])


def document() -> dict[str, Any]:
    """The whole file."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return loaded


class ServiceProgram:
    """One service: its command line, environment and mounts, with other ports and on loopback."""

    def __init__(self, name: str, entrypoint: list[str], ports: Mapping[int, int]) -> None:
        self._service = services()[name]
        self._entrypoint = self._service.get("entrypoint", entrypoint)
        self._ports = ports

    @property
    def command(self) -> list[str]:
        return [*self._entrypoint, *map(self._moved, self._service["command"])]

    @property
    def environment(self) -> dict[str, str]:
        return {name: self._moved(value) for name, value in self._service.get("environment", {}).items()}

    @property
    def health_check(self) -> list[str]:
        return [self._moved(word) for word in self._service["healthcheck"]["test"][1:]]

    def mounts(self, secrets: Path, volumes: Mapping[str, Path]) -> list[Mount]:
        """The declared secrets and volumes, and nothing else."""
        found = [Mount(secrets / name, f"/run/secrets/{name}") for name in self._service.get("secrets", ())]
        for volume in self._service.get("volumes", ()):
            name, _, target = volume.partition(":")
            found.append(Mount(volumes[name], target, writable=True))
        return found

    def _moved(self, text: str) -> str:
        local = text.replace("0.0.0.0", "127.0.0.1").replace("=server:", "=127.0.0.1:")
        return re.sub(r":(\d{4,5})\b", lambda found: f":{self._ports.get(int(found[1]), found[1])}", local)
