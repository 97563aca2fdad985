"""The order in which an agent tries the addresses of its servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distributor.errors import ConfigurationError


class ServerAddresses:
    """One or more servers that share a Valkey. A failed one goes to the end; the others keep their order."""

    def __init__(self, servers: str, shuffle: Callable[[list[str]], None]) -> None:
        """`servers` are addresses, "host:port", separated by commas; `shuffle` spreads agents over them.

        Raises ConfigurationError if there is none.
        """
        self._order = list(dict.fromkeys(part.strip() for part in servers.split(",") if part.strip()))
        if not self._order:
            raise ConfigurationError("an agent needs the address of a server, host:port")
        shuffle(self._order)
        self._failed_in_a_row = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def current(self) -> str:
        """The address in use, or to be tried next."""
        return self._order[0]

    @property
    def others_first(self) -> Sequence[str]:
        """All addresses, the current one last: where to go if its server is about to end."""
        return (*self._order[1:], self._order[0])

    @property
    def exhausted(self) -> bool:
        """Whether each address has failed since the last wait, so that it is time to wait again."""
        return self._failed_in_a_row > 0 and self._failed_in_a_row % len(self._order) == 0

    def failed(self) -> None:
        """The current server cannot be reached, refused the agent or ended its stream: try the next one."""
        self._failed_in_a_row += 1
        self._order.append(self._order.pop(0))

    def confirmed(self) -> None:
        """The current server has served the agent: what failed before does not count any more."""
        self._failed_in_a_row = 0

    def used(self, address: str) -> None:
        """The agent turns to the server at `address`."""
        self._order.remove(address)
        self._order.insert(0, address)
