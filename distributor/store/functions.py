"""Loads the Lua functions into Valkey and calls them.

All functions are one library. Its name and the names of its functions carry a digest of the source, so servers of
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
"""Told of each round trip: the function, how many items it carried, and the seconds it took."""


def library_source() -> tuple[str, str]:
    """The library as one Lua text, and its version: eight hexadecimal digits of a digest of it."""
    files = sorted((entry for entry in FOLDER.iterdir() if entry.name.endswith(".lua")), key=lambda entry: entry.name)
    shared = (FOLDER / "_shared.lua").read_text()
    # A block for each file, so that names local to one cannot meet those of another.
    blocks = [f"do\n{entry.read_text()}\nend\n" for entry in files if entry.name != "_shared.lua"]
    body = "\n".join([lua_prelude(), lua_transitions(), shared, *blocks])
    version = hashlib.sha256(body.encode()).hexdigest()[:8]
    return f"#!lua name=distributor_{version}\nlocal VERSION = '{version}'\n{body}", version


def lua_transitions() -> str:
    """Lua source of the table that every change of a state is checked against: `TRANSITIONS[before][after]`."""
    lines = []
    for before in CommandStatus:
        reached = {after for targets in TRANSITIONS.values() for after in targets.get(before, ())}
        lines.append(f"{before} = {{{', '.join(f'{after} = true' for after in CommandStatus if after in reached)}}}")
    return f"local TRANSITIONS = {{{', '.join(lines)}}}\n"


class Functions:
    """Calls the functions by their short names. Loads them when Valkey does not have them."""

    def __init__(
        self, connection: ValkeyConnection, observe: Observer | None = None, failed: Callable[[str], None] | None = None
    ) -> None:
        """`observe` is told of each round trip, `failed` of each function that could not be called."""
        self._connection = connection
        self._observe = observe
        self._failed = failed
        self._source, self._version = library_source()

    async def load(self) -> None:
        """Put the library into Valkey unless it is there: one that is full, or cannot save, would refuse it."""
        if not await self._connection.call("FUNCTION", "LIST", "LIBRARYNAME", f"distributor_{self._version}"):
            # Another server may have been faster, with the same source.
            await self._connection.call("FUNCTION", "LOAD", "REPLACE", self._source)

    async def check_writable(self) -> None:
        """Raise Unavailable while Valkey takes no changes."""
        await self.call("probe", [])

    async def call(self, name: str, arguments: list[Argument], items: int = 1) -> Any:
        """The reply of function `name` to a call for so many items."""
        begun = time.perf_counter()
        full_name = f"{name}_{self._version}"
        try:
            reply = await self._connection.call("FCALL", full_name, 0, *arguments)
        except DistributorError as error:
            # A Valkey that was replaced or flushed has forgotten the library; nothing was run yet.
            if "Function not found" not in str(error):
                if self._failed is not None:
                    self._failed(name)
                raise
            await self.load()
            reply = await self._connection.call("FCALL", full_name, 0, *arguments)
        if self._observe is not None:
            self._observe(name, items, time.perf_counter() - begun)
        return reply
