"""Records the messages between an agent and a server as reproducible text."""

from __future__ import annotations

import re
import textwrap
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString

from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.wire_agent import WireAgent

WIDTH: Final = 116
_VERSION: Final = re.compile(r"distributor [0-9][^\"]*")
_STICKS: Final = ":\N{NO-BREAK SPACE}"
"""Between a name and its value no line is broken."""
_IDS: Final = (
    ("C", re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")),
    ("L", re.compile(r'(?<=lease_id: ")[0-9a-f]{16}(?=")')),
)


class RecordedExchange:
    """Writes down messages both ways. Ids that are made up anew each time get names in the order of appearance."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}
        self._heard: dict[int, int] = {}

    def note(self, text: str) -> None:
        """A line that is no message."""
        self.lines.append(text)

    async def say(self, agent: WireAgent, **parts: Any) -> None:
        """Send a message, after whatever came before it."""
        self.hear(agent)
        self._add("→", pb.ConnectRequest(**parts))
        await agent.send(**parts)

    def hear(self, agent: WireAgent) -> None:
        """Write down what has come since."""
        known = self._heard.get(id(agent), 0)
        for message in agent.messages[known:]:
            self._add("←", message)
        self._heard[id(agent)] = len(agent.messages)

    def _add(self, direction: str, message: Message) -> None:
        text = MessageToString(message, as_one_line=True)
        for letter, pattern in _IDS:
            for made_up in dict.fromkeys(pattern.findall(text)):
                text = text.replace(made_up, self._name(letter, made_up))
        text = f"{direction} {_VERSION.sub('distributor …', text)}".replace(": ", _STICKS)
        wrapped = textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        self.lines += [line.replace(_STICKS, ": ") for line in wrapped]

    def _name(self, letter: str, made_up: str) -> str:
        count = sum(name[0] == letter for name in self._names.values())
        return self._names.setdefault(made_up, f"{letter}{count + 1}")
