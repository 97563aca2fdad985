"""Secret params reach the agent and nobody else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.message import Message
from valkey.asyncio import Valkey

from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.received_errors import error_of
from tests.support.running_server import RunningServer, queue_request, running_server

SECRET: Final = "hunter2-of-the-test"
PARAMS: Final[dict[str, Any]] = {"argv": ["login", SECRET], "auth": {"user": "u", "token": SECRET}, "plain": "shown"}
POINTERS: Final = ["/argv/1", "/auth/token"]


@pytest.fixture
async def server(valkey_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    (tmp_path / "policy.toml").write_text(
        '[types.TYPED]\nsecret = ["/argv/1", "/auth"]\n\n[types.STRICT]\nsecret = ["/auth"]\n'
        'schema = { properties = { auth = { type = "string", pattern = "^x" } } }\n'
    )
    async with running_server(valkey_url, policy_file=tmp_path / "policy.toml") as server:
        yield server


def request(**changes: Any) -> pb.QueueCommandRequest:
    return queue_request(command_type="PRINT", params=PARAMS, secret_params=POINTERS, **changes)


def shows(message: Message) -> bool:
    return SECRET.encode() in message.SerializeToString()


async def test_no_answer_shows_a_secret(server: RunningServer) -> None:
    queued = await server.commands.QueueCommand(request(idempotency_key="k"))
    command_id = queued.command.command_id
    again = await server.commands.QueueCommand(request(idempotency_key="k"))
    assert again.already_queued
    batch = pb.QueueCommandsRequest(requests=[request()], with_commands=True)
    got = await server.get(command_id)
    page = await server.commands.ListCommands(pb.ListCommandsRequest())
    answers = [
        queued,
        again,
        await server.commands.QueueCommands(batch),
        got,
        page,
    ]
    watch: Any = server.commands.WatchCommand(pb.WatchCommandRequest(command_id=command_id), timeout=20)
    answers.append(await watch.read())
    watch.cancel()
    assert [shows(answer) for answer in answers] == [False] * 6
    shown: Any = got.command.params
    assert list(shown["argv"]) == ["login", "***"]
    assert dict(shown["auth"].items()) == {"user": "u", "token": "***"}
    assert shown["plain"] == "shown"
    assert page.commands[0].params_summary == "login '***'"


async def test_the_agent_gets_the_secret(server: RunningServer) -> None:
    async with server.agent() as agent:
        await server.commands.QueueCommand(request())
        (assignment,) = await agent.assigned(1)
        assert shows(assignment)
        assert list(assignment.command.secret_params) == POINTERS


async def test_a_retry_keeps_the_secret(server: RunningServer) -> None:
    command_id = await server.queue(params=PARAMS, secret_params=POINTERS)
    await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=command_id))
    retried = await server.commands.RetryCommands(pb.RetryCommandsRequest(command_ids=[command_id]))
    assert not shows(retried)
    new_id = retried.commands[0].new_command_id
    assert not shows(await server.get(new_id))
    async with server.agent() as agent:
        (assignment,) = await agent.assigned(1)
        assert assignment.command.command_id == new_id
        assert shows(assignment)


async def test_params_that_are_secret_by_type_are_hidden_without_a_mark(server: RunningServer) -> None:
    command_id = await server.queue(command_type="TYPED", params=PARAMS)
    got = await server.get(command_id)
    assert not shows(got)
    assert got.command.params["auth"] == "***"
    assert list(got.command.secret_params) == ["/argv/1", "/auth"]


async def test_a_secret_is_stored_only_in_the_command_itself(server: RunningServer, valkey_url: str) -> None:
    command_id = await server.queue(params=PARAMS, secret_params=POINTERS)
    async with Valkey.from_url(valkey_url) as client:
        holding = [key async for key in client.scan_iter() if SECRET.encode() in await dumped(client, key)]
        assert holding == [f"command:queue:{command_id}".encode()]
        await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=command_id))
        holding = [key async for key in client.scan_iter() if SECRET.encode() in await dumped(client, key)]
        assert holding == [f"agent:agent123:command:list:{command_id}".encode()]


READ_BY_TYPE: Final = {
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"stream": ("XRANGE", "-", "+"),
    b"zset": ("ZRANGE", "0", "-1"),
    b"list": ("LRANGE", "0", "-1"),
    b"set": ("SMEMBERS",),
}


async def dumped(client: Valkey, key: bytes) -> bytes:
    """All of what a key holds, as text that contains every text in it."""
    command, *rest = READ_BY_TYPE[await client.type(key)]
    return repr(await client.execute_command(command, key, *rest)).encode()


async def test_no_log_line_shows_a_secret(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await server.commands.QueueCommand(request())
        await error_of(server.queue(command_type="STRICT", params={"auth": SECRET}))
        async with server.agent() as agent:
            (assignment,) = await agent.assigned(1)
            await agent.finish(assignment, status=command_pb2.COMMAND_STATUS_COMPLETED)
    assert SECRET not in caplog.text


async def test_no_error_shows_a_secret(server: RunningServer) -> None:
    error = await error_of(server.queue(command_type="STRICT", params={"auth": SECRET}))
    assert error.reason == "PARAMS_NOT_VALID"
    assert error.field == "command.params.auth"
    assert error.text == "command.params.auth is not valid (secret)"


@pytest.mark.parametrize(("pointers", "reason"), [(["auth"], "INVALID_POINTER"), (["/a"] * 33, "TOO_MANY_POINTERS")])
async def test_invalid_marks_are_refused(server: RunningServer, pointers: list[str], reason: str) -> None:
    error = await error_of(server.queue(secret_params=pointers))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", reason, "command.secret_params")


async def test_signatures_over_secrets_are_not_shown(server: RunningServer) -> None:
    signature = command_pb2.CommandSignature(
        signature_id="018bcfe5-6800-7000-8000-000000000000", key_id="k", value=bytes(64)
    )
    secret = await server.queue(params=PARAMS, secret_params=POINTERS, signature=signature)
    plain = await server.queue(params=PARAMS, signature=signature)
    assert not (await server.get(secret)).command.signature.value
    assert (await server.get(plain)).command.signature.value == bytes(64)


async def test_a_command_that_is_signed_again_is_the_same_request(server: RunningServer) -> None:
    ids = []
    for number in range(2):
        signature = command_pb2.CommandSignature(
            signature_id=f"018bcfe5-6800-7000-8000-00000000000{number}", key_id="k", value=bytes(64)
        )
        ids.append(await server.queue(signature=signature, idempotency_key="signed"))
    assert ids[0] == ids[1]


async def test_a_signed_command_is_not_retried(server: RunningServer) -> None:
    signature = command_pb2.CommandSignature(
        signature_id="018bcfe5-6800-7000-8000-000000000000", key_id="k", value=bytes(64)
    )
    command_id = await server.queue(signature=signature)
    await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=command_id))
    retried = await server.commands.RetryCommands(pb.RetryCommandsRequest(command_ids=[command_id]))
    assert retried.commands[0].error.code == "FAILED_PRECONDITION"
    assert retried.commands[0].error.reason == "SIGNED_COMMAND"


async def test_what_cannot_be_a_signature_is_refused(server: RunningServer) -> None:
    error = await error_of(server.queue(signature=command_pb2.CommandSignature(signature_id="x")))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "INVALID_SIGNATURE", "command.signature")
