from __future__ import annotations

import pytest

from distributor.agent.server_addresses import ServerAddresses
from distributor.errors import ConfigurationError


def addresses(servers: str = "a:1, b:2,c:3") -> ServerAddresses:
    return ServerAddresses(servers, lambda order: None)


def test_a_failed_server_is_tried_last_and_a_round_of_failures_ends_in_a_wait() -> None:
    some = addresses()
    tried = []
    for _ in range(6):
        tried.append(some.current)
        some.failed()
        tried.append("wait" if some.exhausted else "")
    assert tried == ["a:1", "", "b:2", "", "c:3", "wait"] * 2


def test_a_server_that_served_begins_a_new_round() -> None:
    some = addresses()
    some.failed()
    some.failed()
    some.confirmed()
    some.failed()
    assert not some.exhausted


def test_a_draining_server_is_the_last_to_move_to() -> None:
    some = addresses()
    assert some.others_first == ("b:2", "c:3", "a:1")
    some.used("c:3")
    assert (some.current, some.others_first) == ("c:3", ("a:1", "b:2", "c:3"))


def test_agents_are_spread() -> None:
    assert ServerAddresses("a:1,b:2,a:1", lambda order: order.reverse()).current == "b:2"


def test_an_agent_needs_a_server() -> None:
    with pytest.raises(ConfigurationError, match="the address of a server"):
        addresses(" , ")
