"""Loads the Lua functions into Valkey and calls them.

All functions form one library. Its name and the function names contain a digest of the source, so that servers of
two versions can share a Valkey during an upgrade.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from importlib import resources
from typing import Any, Final

from distributor.errors import DistributorError
from distributor.model.lifecycle import TRANSITIONS, CommandStatus
from distributor.store.keys import lua_prelude
from distributor.store.valkey_connection import Argument, ValkeyConnection

FOLDER: Final = resources.files("distributor.store") / "functions"
Observer = Callable[[str, int, float], None]
"""Receives each round trip: the function, the number of items, and the duration in seconds."""


def library_source() -> tuple[str, str]:
    """The library as Lua source, and its version: eight hexadecimal digits of the source's digest."""
    files = sorted((entry for entry in FOLDER.iterdir() if entry.name.endswith(".lua")), key=lambda entry: entry.name)
    shared = (FOLDER / "_shared.lua").read_text()
    # One block per file, so that local names cannot clash.
    blocks = [f"do\n{entry.read_text()}\nend\n" for entry in files if entry.name != "_shared.lua"]
    body = "\n".join([lua_prelude(), lua_transitions(), shared, *blocks])
    version = hashlib.sha256(body.encode()).hexdigest()[:8]
    return f"#!lua name=distributor_{version}\nlocal VERSION = '{version}'\n{body}", version


def lua_transitions() -> str:
    """Lua source of the table that validates every change of state: `TRANSITIONS[before][after]`."""
    lines = []
    for before in CommandStatus:
        reached = {after for targets in TRANSITIONS.values() for after in targets.get(before, ())}
        lines.append(f"{before} = {{{', '.join(f'{after} = true' for after in CommandStatus if after in reached)}}}")
    return f"local TRANSITIONS = {{{', '.join(lines)}}}\n"


class Functions:
    """Calls the functions by their short names. Loads the library if Valkey lacks it."""

    def __init__(
        self, connection: ValkeyConnection, observe: Observer | None = None, failed: Callable[[str], None] | None = None
    ) -> None:
        """`observe` receives each round trip, `failed` the name of each function whose call failed."""
        self._connection = connection
        self._observe = observe
        self._failed = failed
        self._source, self._version = library_source()

    async def load(self) -> None:
        """Load the library unless it is present: a Valkey that is full or cannot save rejects loading."""
        if not await self._connection.call("FUNCTION", "LIST", "LIBRARYNAME", f"distributor_{self._version}"):
            # Another server may have loaded the same source in the meantime.
            await self._connection.call("FUNCTION", "LOAD", "REPLACE", self._source)

    async def check_writable(self) -> None:
        """Raise Unavailable while Valkey rejects writes."""
        await self.call("probe", [])

    async def call(self, name: str, arguments: list[Argument], items: int = 1) -> Any:
        """Call function `name` for `items` items and return its reply."""
        begun = time.perf_counter()
        full_name = f"{name}_{self._version}"
        try:
            reply = await self._connection.call("FCALL", full_name, 0, *arguments)
        except DistributorError as error:
            # A replaced or flushed Valkey lacks the library; nothing has run yet.
            if "Function not found" not in str(error):
                if self._failed is not None:
                    self._failed(name)
                raise
            await self.load()
            reply = await self._connection.call("FCALL", full_name, 0, *arguments)
        if self._observe is not None:
            self._observe(name, items, time.perf_counter() - begun)
        return reply
