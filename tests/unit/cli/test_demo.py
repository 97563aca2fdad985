"""The demo waits for its own agent, and says so where one that was killed is in its way."""

from __future__ import annotations

import pytest

from distributor.cli import demo
from distributor.errors import Unavailable


class Server:
    """Has the agent once the wait for it was told."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, comes: bool) -> None:
        self.told = ""
        self._capsys = capsys
        self._comes = comes

    def has_agent(self, agent_id: str) -> bool:
        assert agent_id == "dev-agent"
        self.told += self._capsys.readouterr().out
        return self._comes and bool(self.told)


async def test_an_agent_that_was_killed_is_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "AGENT_START_SECONDS", 0.0)
    server = Server(capsys, comes=True)
    await demo.agent_attached(server, offline_after=30.0)
    assert server.told == (
        "  Waiting for dev-agent. If one was killed just now, its session expires 30 s after it was last heard.\n"
    )


async def test_one_that_does_not_come_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "AGENT_START_SECONDS", 0.0)
    with pytest.raises(Unavailable, match=r"agent dev-agent did not attach within 0 s; its log says why"):
        await demo.agent_attached(Server(capsys, comes=False), offline_after=0.1)
