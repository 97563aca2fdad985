"""Sockets of HTTP endpoints."""

from __future__ import annotations

import socket

from distributor.wire.listening import listening_socket


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    with listening_socket("127.0.0.1:0", "listen") as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
