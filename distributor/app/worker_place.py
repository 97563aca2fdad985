"""What one worker of a server differs in from the others, and how its supervisor hands it over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from distributor.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """The number of a worker, from 0, and what its supervisor has chosen where the settings leave a choice.

    `listen` and `mtls_listen` are the addresses that the supervisor holds, "" for none. `embedded_url` is the address
    of the supervisor's embedded Valkey, with its password; "" without one.
    """

    number: int
    listen: str
    mtls_listen: str = ""
    embedded_url: str = ""


def assignment(settings: ServerSettings, place: WorkerPlace) -> dict[str, Any]:
    """Return both as JSON, secrets included: only for a channel that nobody else can read."""
    return {"settings": {name: _plain(value) for name, value in settings.model_dump().items()}, "place": asdict(place)}


def assigned(document: dict[str, Any]) -> tuple[ServerSettings, WorkerPlace]:
    """Return what `assignment` was given. The settings are equal to the supervisor's."""
    return ServerSettings(**document["settings"]), WorkerPlace(**document["place"])


def _plain(value: Any) -> Any:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return str(value)
        case tuple() | list():
            return [_plain(member) for member in value]
        case _:
            return value
