"""What programs take from their environment without a setting: where they keep state, and what EXEC passes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

COMMAND_MARKER: Final = "DISTRIBUTOR_COMMAND_ID"
ATTEMPT_MARKER: Final = "DISTRIBUTOR_ATTEMPT"
"""Environment variables that say for what a process runs."""


def environment_value(name: str) -> str | None:
    """Return the variable that a caller names as the source of a secret; None if it is not set."""
    return os.environ.get(name)


_IDENTITY: Final = ".identity"


def state_folder() -> Path:
    """Return our folder in the state directory of the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "distributor"


def config_folder() -> Path:
    """Return our folder in the configuration directory of the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "distributor"


def default_journal(agent_id: str) -> Path:
    """Return where an agent keeps its journal unless it is set."""
    return state_folder() / "agents" / f"{agent_id}.journal"


def identity_folder(agent_id: str) -> Path:
    """Return where an enrolled agent keeps its key and certificate."""
    return state_folder() / "agents" / f"{agent_id}{_IDENTITY}"


def enrolled_agents() -> list[str]:
    """Return the ids of the agents that have enrolled on this host as this user, in order."""
    return sorted(path.parent.name.removesuffix(_IDENTITY) for path in _credentials())


def _credentials() -> list[Path]:
    try:
        return list((state_folder() / "agents").glob(f"*{_IDENTITY}/credential.pem"))
    except OSError:
        return []
