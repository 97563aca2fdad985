from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from distributor.app.key_set_fetch import fetched_keys
from distributor.errors import Unavailable
from tests.support.waiting import PATIENCE_SECONDS


@pytest.fixture(params=[b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["status", "headers", "body"])
def trickling(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a host that begins an answer, and then sends a byte at a time for half a minute."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(request.param)
                for _ in range(1_500):
                    if over.wait(0.02):
                        break
                    connection.sendall(b"x")
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    over.set()
    thread.join(PATIENCE_SECONDS)
    listener.close()


def test_a_host_that_sends_a_byte_at_a_time_is_cut_off(trickling: str) -> None:
    with pytest.raises(Unavailable, match="not sent in time"):
        fetched_keys(f"http://{trickling}/keys", seconds=0.3)


def test_a_handshake_that_trickles_is_cut_off(trickling: str) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        fetched_keys(f"https://{trickling}/keys", seconds=0.3)
