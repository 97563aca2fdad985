from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from distributor.bridge.user_limits import CONNECTIONS_RETRY_SECONDS, UNLIMITED, URGENT_TYPES, UserLimits
from distributor.errors import ResourceExhausted
from distributor.identity.caller import Caller, CallerKind
from distributor.settings.bridge_limits import BridgeLimitSettings

ALICE, BOB = Caller(CallerKind.USER, "alice"), Caller(CallerKind.USER, "bob")


class World:
    """Limits at a time that the test sets."""

    def __init__(self, max_users: int = 100, **settings: Any) -> None:
        self.now = 0.0
        self.limits = UserLimits(BridgeLimitSettings(**settings), lambda: self.now, max_users)

    def wait(self, caller: Caller, type_: str = "ping") -> float | None:
        """After how many seconds to send again what is refused; 0 if it is not."""
        try:
            self.limits.check_message(caller, type_)
        except ResourceExhausted as error:
            return error.retry_after_seconds
        return 0.0


def test_messages_of_a_user_beyond_the_rate_wait_and_those_of_others_do_not() -> None:
    world = World(user_message_rate=2, user_message_burst=2.0)
    assert [world.wait(ALICE) for _ in range(5)] == [0.0] * 4 + [0.5]
    assert world.wait(BOB) == 0.0
    world.now = 0.5
    assert [world.wait(ALICE), world.wait(ALICE)] == [0.0, 0.5]


def test_what_ends_an_overload_is_counted_apart() -> None:
    world = World(user_message_rate=1, user_message_burst=3.0)
    assert [world.wait(ALICE) for _ in range(4)] == [0.0] * 3 + [1.0]
    assert {world.wait(ALICE, type_) for type_ in URGENT_TYPES} == {0.0}
    assert world.wait(ALICE, "command:request") == 1.0


def test_a_flood_of_what_ends_an_overload_waits_too() -> None:
    for type_ in URGENT_TYPES:
        world = World(user_message_rate=1, user_message_burst=5.0)
        assert [world.wait(ALICE, type_) for _ in range(6)] == [0.0] * 5 + [1.0]
        assert world.wait(ALICE, "command:request") == 0.0
        assert world.wait(BOB, type_) == 0.0


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    limits = World(address_connections=1).limits
    with limits.stranger("2001:db8::1"):
        with pytest.raises(ResourceExhausted), limits.stranger("2001:db8::2:1"):
            raise AssertionError("the same network")
        with limits.stranger("2001:db8:0:1::1"):
            pass


def test_zero_is_any_number_of_messages() -> None:
    world = World(user_message_rate=0)
    assert {world.wait(ALICE) for _ in range(10_000)} == {0.0}
    assert len(world.limits) == 0


def test_connections_count_until_they_end() -> None:
    limits = World(user_connections=1, address_connections=1).limits
    with limits.dashboard(ALICE), limits.stranger("192.0.2.7"):
        with pytest.raises(ResourceExhausted, match="alice") as caught, limits.dashboard(ALICE):
            raise AssertionError("one too many")
        assert (caught.value.reason, caught.value.retry_after_seconds) == (
            "TOO_MANY_CONNECTIONS",
            CONNECTIONS_RETRY_SECONDS,
        )
        with pytest.raises(ResourceExhausted, match="this address"), limits.stranger("192.0.2.7"):
            raise AssertionError("one too many")
        with limits.dashboard(BOB), limits.stranger("192.0.2.8"):
            pass
    with limits.dashboard(ALICE), limits.stranger("192.0.2.7"):
        pass
    assert len(limits) == 0


def test_memory_is_bounded_whoever_sends() -> None:
    world = World(max_users=3)
    for number in range(50):
        world.wait(Caller(CallerKind.USER, f"user{number}"))
    assert len(world.limits) == 3


def test_no_limits_are_none() -> None:
    with ExitStack() as many:
        for _ in range(1_000):
            many.enter_context(UNLIMITED.dashboard(ALICE))
            UNLIMITED.check_message(ALICE)
