"""Reads events by the rules of a recorded version, without any of today's code.

Unknown kinds, statuses and members are ignored. Each kind has required members, and each member a type. Some kinds
carry the whole state, the others what changed since the previous revision.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tests.support.store_recording import text_of

TYPES: Final[dict[str, type]] = {"number": int, "text": str, "boolean": bool, "object": dict, "list": list}
"""Types of members by their names in a recording."""


class Unreadable(AssertionError):
    """A reader of the recorded version cannot use this event."""


class RecordedEventReader:
    """Follows all commands of an event stream from its beginning.

    `rules` has the event stream's key as `stream`, the fields of a state in `state`, the known `statuses`, the types of
    `members`, and for each kind in `kinds` the members that it `needs` and whether it is `whole`.
    """

    def __init__(self, rules: dict[str, Any]) -> None:
        self._rules = rules
        self._shown = frozenset(rules["state"][2:])
        self.states: dict[str, dict[str, Any]] = {}
        """What is shown of each command, named as in its status hash."""

    def read(self, fields: list[bytes]) -> None:
        """Read an entry. Raises Unreadable if an event lacks what this version needs, or leaves a gap."""
        names = [text_of(field) for field in fields]
        if names[:1] != ["origin"]:
            raise Unreadable(f"the entry does not begin with its origin: {names[:2]}")
        for subject, text in zip(names[2::2], names[3::2], strict=True):
            self._event(subject, json.loads(text))

    def _event(self, subject: str, event: dict[str, Any]) -> None:
        rule = self._rules["kinds"].get(event.get("event"))
        if rule is None:
            return
        missing = [name for name in rule["needs"] if name not in event]
        mistyped = [name for name, value in event.items() if type(value) is not self._type(name, value)]
        if missing or mistyped:
            raise Unreadable(f"missing {missing}, of another type {mistyped}: {event}")
        if "status" in rule["needs"] and event["status"] in self._rules["statuses"]:
            self._changed(subject, event, rule["whole"])

    def _type(self, name: str, value: Any) -> type:
        known = self._rules["members"].get(name)
        return TYPES[known] if known else type(value)

    def _changed(self, command_id: str, event: dict[str, Any], whole: bool) -> None:
        before = {} if whole else self.states.get(command_id, {})
        if not whole and event["revision"] != before.get("revision", 0) + 1:
            raise Unreadable(f"revision {event['revision']} after {before.get('revision')}: {event}")
        changed = {name: value for name, value in event.items() if name in self._shown}
        self.states[command_id] = {name: value for name, value in {**before, **changed}.items() if value}
