"""What dashboards learn of the server, and when."""

from __future__ import annotations

from distributor.bridge.backend_status import BackendStatus


def test_what_is_insecure_is_told_when_it_changes_and_only_then() -> None:
    seen: list[tuple[bool, list[str]]] = []
    status = BackendStatus(lambda: seen.append((status.server.fault is None, status.insecure)))
    status.own_insecure = ["plain_page"]
    status.server_answered(("unauthenticated",))
    status.server_answered(("unauthenticated",))
    status.server_answered(())
    status.server.failed("the server is away")
    status.server_answered(("plain_http", "plain_text"))
    assert seen == [
        (True, ["plain_page", "server_unauthenticated"]),
        (True, ["plain_page"]),
        (False, ["plain_page"]),
        (True, ["plain_page", "server_plain_text", "server_plain_http"]),
    ]


def test_what_a_later_server_says_is_left_out() -> None:
    status = BackendStatus(lambda: None)
    status.server_answered(("of a later version", "unauthenticated"))
    assert status.insecure == ["server_unauthenticated"]
