"""Words that make a message reach the code behind the first check: ids that exist, types that agents know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

FUZZED_AGENTS: Final = tuple(f"fuzz-{number}" for number in range(60))
"""So many that none of them attaches more often than an agent may."""
TYPES: Final = ("PING", "PRINT", "EXEC", "READ", "STOP")
NO_ID: Final = "01980000-0000-7000-8000-ffffffffffff"
MOST_IDS: Final = 256


class Vocabulary:
    """Values for fields by name. Learns the ids of commands as they are queued, and remembers the last of them."""

    def __init__(self) -> None:
        self._command_ids: list[str] = [NO_ID]
        self._learned = 0

    def learn(self, command_id: str) -> None:
        """Remember a command that exists."""
        if len(self._command_ids) < MOST_IDS:
            self._command_ids.append(command_id)
        else:
            self._command_ids[1 + self._learned % (MOST_IDS - 1)] = command_id
        self._learned += 1

    def text(self, rng: Random, field: str) -> str:
        """Return a plausible value for a text field of this name, in snake_case or camelCase."""
        name = field.replace("_", "").lower()
        return rng.choice(self._words(name))

    def _words(self, name: str) -> Sequence[str]:
        for ending, words in self._by_ending().items():
            if name.endswith(ending):
                return words
        return ("", "a", "some text")

    def _by_ending(self) -> Mapping[str, Sequence[str]]:
        return {
            "agentid": FUZZED_AGENTS,
            "agentids": FUZZED_AGENTS,
            "agents": FUZZED_AGENTS,
            "commandid": self._command_ids,
            "commandids": self._command_ids,
            "requestid": ("r1", "r2"),
            "version": ("1.0.0", "1.2.3"),
            "type": TYPES,
            "types": TYPES,
            "offline": ("queue", "fail"),
        }
