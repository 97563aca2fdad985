from __future__ import annotations

from distributor.testing.server_log import KEPT_LINES, ServerLog

PATIENCE_SECONDS = 10.0


def test_the_address_is_found_among_other_lines() -> None:
    log = ServerLog()
    with log.target:
        log.target.write(b'warming up\n{"event": "agent attached"}\n[1]\n{"event": "serving", "grpc": "127.0.0.1:7"}\n')
        log.target.flush()
        assert log.wait_for_address(PATIENCE_SECONDS) == "127.0.0.1:7"
    log.close()


def test_a_server_that_ends_has_no_address_but_last_lines() -> None:
    log = ServerLog()
    with log.target:
        log.target.write(b"".join(b"line %d\n" % number for number in range(KEPT_LINES + 5)))
    assert log.wait_for_address(PATIENCE_SECONDS) == ""
    log.close()
    assert log.text.splitlines() == [f"line {number}" for number in range(5, KEPT_LINES + 5)]
