"""`command-sender` with secret params and signatures: what it reads, sends and shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distributor.agent import Agent, CommandContext
from distributor.identity.signatures import Signer, new_signing_key
from tests.support.driven_agent import driven_agent
from tests.support.launched_sender import Finished, run_sender
from tests.support.running_server import RunningServer
from tests.support.serving_agent import background
from tests.support.signed_commands import requiring, written_key
from tests.support.waiting import until

SECRET = "hunter2-of-the-test"


async def shown(running: RunningServer, sent: Finished) -> str:
    """All that the sender and its later calls show of the command."""
    assert sent.code == 0, sent.stderr
    command_id = sent.document["commandId"]
    got = [await run_sender(running.address, "get", command_id, *how) for how in ((), ("-o", "json"))]
    listed = await run_sender(running.address, "list", "-o", "json")
    return "".join(one.stdout.decode() + one.stderr for one in (sent, *got, listed))


@pytest.mark.parametrize("source", ["env", "file", "stdin"])
async def test_a_secret_param_reaches_the_agent_and_is_shown_nowhere(
    running: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("DATABASE_SECRET", SECRET)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    given = {"env": "env:DATABASE_SECRET", "file": f"@{tmp_path / 'secret'}", "stdin": "-"}[source]
    async with driven_agent(running.address, "a1") as agent:
        sent = await run_sender(
            running.address,
            "--agent=a1",
            "--type=LOGIN",
            "--params=user=u",
            f"--secret-param=pass/word={given}",
            "-o",
            "json",
            stdin=SECRET.encode() if source == "stdin" else None,
        )
        text = await shown(running, sent)
        assignment = await agent.assignment(sent.document["commandId"])
    assert SECRET not in text
    assert sent.document["params"] == {"user": "u", "pass/word": "***"}
    assert sent.document["secretParams"] == ["/pass~1word"]
    assert dict(assignment.command.params) == {"user": "u", "pass/word": SECRET}


async def test_a_secret_on_the_command_line_is_refused_and_not_repeated(running: RunningServer) -> None:
    finished = await run_sender(running.address, "--agent=a1", "--type=LOGIN", f"--secret-param=password={SECRET}")
    assert finished.code == 2
    assert "never the secret itself" in finished.stderr
    assert SECRET not in finished.stderr


async def test_a_copied_document_with_masks_is_refused(running: RunningServer) -> None:
    line = {"agentId": "a1", "type": "LOGIN", "params": {"password": "***"}, "secretParams": ["/password"]}
    finished = await run_sender(running.address, "--input=-", stdin=json.dumps(line).encode())
    assert finished.code != 0
    assert "*** in place of a secret" in finished.stderr


async def test_signed_commands_run_on_an_agent_that_requires_them(running: RunningServer, tmp_path: Path) -> None:
    pem = new_signing_key()
    private, _ = written_key(pem, tmp_path)
    agent = Agent("a1", server=running.address)
    agent.signatures = requiring(Signer(pem))
    ran: list[object] = []

    @agent.handler("WORK")
    async def work(command: CommandContext) -> None:
        ran.append(command.params["path"])

    call = ("--agent=a1", "--type=WORK", "--params=path=/x", "--wait", "-o", "json")
    async with background(agent.serve()):
        await until(lambda: running.process.has_agent("a1"))
        signed = await run_sender(running.address, *call, f"--sign-key={private}")
        assert (signed.code, signed.document["status"]) == (0, "completed")
        unsigned = await run_sender(running.address, *call)
        assert unsigned.document["reason"]["code"] == "signature_missing"
        several = await run_sender(running.address, *call[:3], "--repeat=3", "--wait", f"--sign-key={private}")
        assert several.code == 0, several.stderr
        got = await run_sender(running.address, "get", signed.document["commandId"], "-o", "json")
        assert got.document["signedBy"] == Signer(pem).key_id
        again = await run_sender(running.address, "retry", signed.document["commandId"])
        assert "sign it anew" in again.stderr
    assert ran == ["/x"] * 4


async def test_a_key_that_others_can_read_is_refused(running: RunningServer, tmp_path: Path) -> None:
    private, _ = written_key(new_signing_key(), tmp_path)
    private.chmod(0o644)
    finished = await run_sender(running.address, "--agent=a1", "--type=WORK", f"--sign-key={private}")
    assert finished.code == 2
    assert "can be read by others" in finished.stderr


async def test_a_validity_without_a_key_is_a_mistake(running: RunningServer) -> None:
    finished = await run_sender(running.address, "--agent=a1", "--type=WORK", "--sign-for=1h")
    assert finished.code == 2
    assert "--sign-for needs --sign-key" in finished.stderr
