"""Which commands changed since the journal was last written."""

from __future__ import annotations

from collections.abc import Callable


class UnwrittenChanges:
    """Ids of changed commands, each once however often it changed. Does no I/O.

    An urgent change must be in the journal before its command is started or reported. Others wait for the next commit.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[bool], None] = _ignore
        """Called after each change, with True if it is urgent."""
        self._urgent: dict[str, None] = {}
        self._later: dict[str, None] = {}
        self._writing: dict[str, None] = {}

    def __bool__(self) -> bool:
        """Whether there are changes that are not being written."""
        return bool(self._urgent or self._later)

    @property
    def urgent(self) -> bool:
        """Whether there are urgent changes that are not being written."""
        return bool(self._urgent)

    def note(self, command_id: str) -> None:
        """Note an urgent change."""
        self._urgent[command_id] = None
        self.on_change(True)

    def note_later(self, command_id: str) -> None:
        """Note a change that may be lost with the process."""
        self._later[command_id] = None
        self.on_change(False)

    def written(self, command_id: str) -> bool:
        """Whether the journal has every urgent change of the command."""
        return command_id not in self._urgent and command_id not in self._writing

    def only_noted(self, command_id: str) -> bool:
        """Whether the command's latest urgent change is in no commit yet."""
        return command_id in self._urgent and command_id not in self._writing

    def take(self) -> list[str]:
        """Take all ids, in order, to write them."""
        self._writing = self._urgent | self._later
        self._urgent, self._later = {}, {}
        return list(self._writing)

    def succeeded(self) -> None:
        """The ids taken last were written."""
        self._writing = {}

    def failed(self) -> None:
        """The ids taken last were not written; they come again with the next."""
        self._urgent = self._writing | self._urgent
        self._writing = {}


def _ignore(urgent: bool) -> None:
    """Without a journal, changes concern nobody."""
