"""The policy file: TOML with registered command types and what services may do.

    unlisted = "refuse"

    [types.BACKUP]
    schema = "backup.schema.json"
    roles = ["operator"]
    agents = ["db-*"]
    secret = ["/password"]

    [services.bridge]
    roles = ["delegate"]

Read whole, with the schema files that it names, so that a part of a change is never in effect. Errors name the file,
the line, the table and the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from distributor.model.command_type import ALL_TYPES, CommandTypes
from distributor.settings.policy_text import FileStamp, PolicyText
from distributor.settings.policy_types import command_types

TABLES: Final = ("unlisted", "types", "services")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy file says. `digest` changes with its content and that of its schema files."""

    types: CommandTypes = ALL_TYPES
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The tables [services.NAME] as they are."""
    digest: str = ""
    files: tuple[tuple[Path, FileStamp], ...] = ()
    """The policy file and its schema files, and the stamp of each when it was read."""


NO_POLICY: Final = Policy()


def load_policy(path: Path | None) -> Policy:
    """Load a policy file; None is NO_POLICY. Raises ConfigurationError that names the line and the key at fault.

    Compiles schemas, which takes milliseconds: run it in a thread.
    """
    if path is None:
        return NO_POLICY
    text = PolicyText(path)
    text.check_keys("", text.content, TABLES)
    types = command_types(text)
    services = dict(text.tables("services"))
    return Policy(types, services, text.digest, tuple(text.files))
