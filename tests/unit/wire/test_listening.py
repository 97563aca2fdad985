"""Sockets of HTTP endpoints."""

from __future__ import annotations

import socket

import pytest

from distributor.errors import ConfigurationError
from distributor.wire.listening import check_free, held_port, listening_socket
from tests.support.free_port import free_port


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    with listening_socket("127.0.0.1:0", "listen") as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def sharing(port: int) -> socket.socket:
    """A socket that listens as a worker does."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


@pytest.mark.parametrize("any_port", [True, False])
def test_a_held_port_is_for_listeners_that_share_it_and_for_nobody_else(any_port: bool) -> None:
    with free_port() as port:
        pass
    holder = held_port(f"127.0.0.1:{0 if any_port else port}", "listen")
    port = holder.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with holder:
        # It takes no connections itself.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="Address already in use"):
                check_free(address, "listen")
            with pytest.raises(ConfigurationError, match="Address already in use"):
                listening_socket(address, "listen")
            with pytest.raises(ConfigurationError, match="Address already in use"):
                held_port(address, "listen")
            with sharing(port), sharing(port), socket.create_connection(("127.0.0.1", port)):
                pass
    # Although connections linger there.
    with held_port(address, "listen"):
        pass
    with listening_socket(address, "listen"):
        pass


def test_of_two_that_hold_a_port_at_once_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = socket.socket.bind
    held: list[socket.socket] = []

    def interrupted(self: socket.socket, address: tuple[str, int]) -> None:
        bind(self, address)
        if not held:
            held.append(self)
            # Another one runs in between.
            held.append(held_port(f"127.0.0.1:{port}", "listen"))

    with free_port() as port:
        pass
    monkeypatch.setattr(socket.socket, "bind", interrupted)
    with pytest.raises(ConfigurationError, match="Address already in use"):
        held_port(f"127.0.0.1:{port}", "listen")
    held[1].close()
