"""How long an agent waits between streams."""

from __future__ import annotations

from typing import NoReturn

import grpc
import pytest

from distributor.agent import server_connection
from distributor.agent.current_session import CurrentSession
from distributor.agent.gateway_stream import EndKind, StreamEnd
from distributor.agent.reconnect_backoff import ReconnectBackoff
from distributor.agent.server_addresses import ServerAddresses
from distributor.agent.server_connection import STEADY_SECONDS, ServerConnection

LOST = StreamEnd(EndKind.LOST, True, grpc.StatusCode.INVALID_ARGUMENT, "", None, "X", confirmed=True)


def not_called(*_: object) -> NoReturn:
    raise AssertionError


def delays(monkeypatch: pytest.MonkeyPatch, seconds_each: float) -> list[float]:
    """The waits after six streams that a heartbeat had confirmed, at two servers in turn."""
    moment = 0.0
    monkeypatch.setattr(server_connection, "now", lambda: moment)
    # One wait in a thousand that is drawn at random is none.
    monkeypatch.setattr(server_connection, "ReconnectBackoff", lambda random: ReconnectBackoff(lambda: 0.5))
    addresses = ServerAddresses("a:1,b:1", lambda order: None)
    connection = ServerConnection(addresses, CurrentSession(), not_called, not_called, not_called)
    waits = []
    for _ in range(6):
        moment += seconds_each
        waits.append(connection._delay(LOST))
    return waits


def test_confirmed_streams_that_end_at_once_do_not_disable_the_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [wait > 0.0 for wait in delays(monkeypatch, 0.1)] == [False, True] * 3


def test_the_next_server_is_tried_at_once_after_a_stream_that_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert delays(monkeypatch, STEADY_SECONDS) == [0.0] * 6
