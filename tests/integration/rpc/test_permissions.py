"""Deny by default: what each method of a real server answers to callers without credentials and with each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc
import pytest

from distributor.identity.caller import Caller
from distributor.identity.permissions import RPCS, Need
from distributor.identity.roles import Role
from tests.support.known_callers import ADMIN, AGENT, OPERATOR, VIEWER, KnownCallers, credentials_of, user
from tests.support.running_server import RunningServer, running_server

DELEGATE: Final = user("bridge", Role.DELEGATE)
CALLERS: Final = (VIEWER, OPERATOR, ADMIN, AGENT, DELEGATE)
HEALTH: Final = "/grpc.health.v1.Health/Check"
REFUSED: Final = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
GARBAGE: Final = b"\xff" * 100
"""Not a message: a method that parses it first answers INVALID_ARGUMENT."""


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[RunningServer]:
    """A server with reflection that knows CALLERS."""
    async with running_server(valkey_url, reflection=True, authenticator=KnownCallers(*CALLERS)) as server:
        yield server


async def answer(server: RunningServer, method: str, metadata: Sequence[tuple[str, str]], request: bytes) -> str:
    """The name of the code with which a method ends, or ANSWERED for the first response of a stream."""
    start: Any = server.channel.unary_stream(method)
    call: Any = start(request, metadata=metadata, timeout=20)
    try:
        async for _ in call:
            return "ANSWERED"
        return "OK"
    except grpc.aio.AioRpcError as error:
        return error.code().name


async def test_the_table_names_what_is_served_and_nothing_else(server: RunningServer) -> None:
    assert server.process.methods == RPCS.keys()


async def test_without_credentials_only_health_answers(server: RunningServer) -> None:
    for method in server.process.methods:
        for request in (b"", GARBAGE):
            code = await answer(server, method, (), request)
            if method == HEALTH:
                assert code in ("ANSWERED", "INVALID_ARGUMENT")
            elif RPCS[method] is Need.ENROLMENT:
                # The last without a CA.
                assert code in ("UNAUTHENTICATED", "INVALID_ARGUMENT", "FAILED_PRECONDITION"), method
            else:
                assert code == "UNAUTHENTICATED", method


async def test_with_credentials_that_do_not_count_only_health_answers(server: RunningServer) -> None:
    for method in server.process.methods:
        code = await answer(server, method, (("authorization", "Bearer stranger"),), GARBAGE)
        if RPCS[method] not in (Need.NOTHING, Need.ENROLMENT):
            assert code == "UNAUTHENTICATED", method


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.subject)
async def test_each_role_gets_what_the_table_says(server: RunningServer, caller: Caller) -> None:
    for method in server.process.methods:
        need = RPCS[method]
        permitted = need in (Need.NOTHING, Need.ENROLMENT, Need.CALLER) or need in {*caller.roles, caller.kind.value}
        code = await answer(server, method, credentials_of(caller), GARBAGE)
        assert (code == "PERMISSION_DENIED") is not permitted, method
        if permitted and need is not Need.ENROLMENT:
            assert code not in ("UNAUTHENTICATED", "PERMISSION_DENIED"), method


async def test_nothing_is_said_of_methods_that_do_not_exist(server: RunningServer) -> None:
    assert await answer(server, "/distributor.v1.CommandService/NoSuch", (), b"") == "UNIMPLEMENTED"
