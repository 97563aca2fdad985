"""Limits of single callers, and the bound of what is remembered of them."""

from __future__ import annotations

from typing import Any

import pytest

from distributor.dispatch.caller_limits import CallerLimits
from distributor.errors import ResourceExhausted
from distributor.identity.caller import ANYONE, Caller, CallerKind
from distributor.settings.caller_limits import CallerLimitSettings


def caller(name: str) -> Caller:
    return Caller(CallerKind.USER, name)


def limits(max_callers: int = 10, **settings: Any) -> CallerLimits:
    return CallerLimits(CallerLimitSettings(**settings), lambda: 0.0, max_callers)


def test_zero_is_no_limit() -> None:
    unlimited = limits(caller_call_rate=0, caller_command_rate=0)
    for _ in range(10_000):
        unlimited.check_call(caller("a"), "")
    unlimited.check_commands(caller("a"), "", 10_000_000)


def test_those_who_are_not_known_count_by_address() -> None:
    one = limits(caller_call_rate=1, caller_burst=1)
    one.check_call(ANYONE, "10.0.0.1")
    with pytest.raises(ResourceExhausted):
        one.check_call(ANYONE, "10.0.0.1")
    one.check_call(ANYONE, "10.0.0.2")


def test_only_so_many_callers_are_remembered_and_those_with_streams_stay() -> None:
    few = limits(max_callers=3, caller_streams=1)
    with few.stream(caller("watching"), ""):
        for number in range(100):
            few.check_call(caller(f"caller{number}"), "")
        assert len(few) == 1 + 3
        with pytest.raises(ResourceExhausted), few.stream(caller("watching"), ""):
            raise AssertionError("one too many")
    with few.stream(caller("watching"), ""):
        pass
