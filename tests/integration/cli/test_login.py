"""Credentials for servers: how they are stored, used, shown and refused, by real servers with TLS and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from distributor.app.server_process import ServerProcess, serving
from distributor.settings.contexts import Context, contexts_path, read_contexts, store_context
from tests.support.certificates import CertificateFiles, CertificateMaker
from tests.support.launched_sender import run_sender, start_sender
from tests.support.running_server import quick_settings
from tests.support.terminal import Terminal
from tests.support.token_issuer import KEY, signed
from tests.support.waiting import PATIENCE_SECONDS

FAR = 4_000_000_000
"""2096-10-02T07:06:40Z"""
UNKNOWN_ID = "01a1fb43-1080-7000-a517-4a22d413138e"


@pytest.fixture
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
def files(maker: CertificateMaker, tmp_path: Path) -> CertificateFiles:
    return maker.server().write(tmp_path, "server")


@asynccontextmanager
async def served(valkey_url: str, files: CertificateFiles, **changes: Any) -> AsyncIterator[ServerProcess]:
    usual: dict[str, Any] = {"tls_cert": files.certificate, "tls_key": files.key, "token_key": KEY}
    async with serving(quick_settings(valkey_url, **usual | changes)) as process:
        yield process


def token_of(subject: str = "alice", role: str = "operator", **changes: Any) -> str:
    return signed(**{"sub": subject, "scope": "", "roles": [role], "exp": FAR} | changes)


async def log_in(server: ServerProcess, files: CertificateFiles, token: str, *more: str) -> Any:
    target = f"--server=127.0.0.1:{server.port}"
    return await run_sender("", "login", target, f"--tls-ca={files.ca}", *more, stdin=f"{token}\n".encode())


async def test_after_a_login_no_command_needs_an_option(valkey_url: str, files: CertificateFiles) -> None:
    token = token_of()
    async with served(valkey_url, files) as server:
        done = await log_in(server, files, token)
        address = f"127.0.0.1:{server.port}"
        assert done.code == 0, done.stderr
        assert done.stdout.decode().startswith(
            f"Logged in to {address} (context 127.0.0.1) as alice (operator), until 2096-10-02T07:06:40Z (in "
        )
        assert contexts_path().stat().st_mode & 0o777 == 0o600
        assert (await run_sender("", "agents")).code == 0
        me = (await run_sender("", "whoami", "-o", "json")).document
        assert (me["subject"], me["roles"], me["context"]) == ("alice", ["viewer", "operator"], "127.0.0.1")
        assert me["expireTime"] == "2096-10-02T07:06:40.000Z"
        text = (await run_sender("", "whoami")).stdout.decode()
        for part in ("alice (user)", "viewer, operator", "everything", f"{address} (context 127.0.0.1)"):
            assert part in text
    for command in ("list", "show"):
        for form in ("table", "json", "jsonl"):
            shown = (await run_sender("", "context", command, "-o", form)).stdout.decode()
            assert "2096-10-02T07:06:40" in shown
            assert "alice" in shown
            assert token not in shown
            assert token.split(".")[2] not in shown


async def test_two_contexts_each_with_its_own_credentials(
    valkey_url: str, files: CertificateFiles, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    async with served(valkey_url, files) as one, served(valkey_url, files, token_audience="two") as two:
        assert (await log_in(one, files, token_of("ada"), "--context", "one")).code == 0
        token_file.write_text(token_of("bob", aud="two"))
        second = await run_sender(
            "",
            "login",
            f"--server=127.0.0.1:{two.port}",
            f"--tls-ca={files.ca}",
            "--context=two",
            f"--token-file={token_file}",
        )
        assert second.code == 0, second.stderr
        assert (await run_sender("", "whoami", "-o", "json")).document["subject"] == "bob"
        assert (await run_sender("", "--context", "one", "whoami", "-o", "json")).document["subject"] == "ada"
        assert (await run_sender("", "context", "use", "one")).code == 0
        assert (await run_sender("", "whoami", "-o", "json")).document["subject"] == "ada"
        # The other server gets no credentials of the current context.
        stranger = await run_sender("", "whoami", f"--server=127.0.0.1:{two.port}", f"--tls-ca={files.ca}")
        assert stranger.code == 6
        assert f"log in with: command-sender login --server 127.0.0.1:{two.port}" in stranger.stderr
        assert (await run_sender("", "context", "delete", "one")).code == 0
        listed = (await run_sender("", "context", "list", "-o", "json")).document
        assert [(row["name"], row["current"]) for row in listed] == [("two", False)]


async def test_a_token_that_is_refused_is_not_stored(valkey_url: str, files: CertificateFiles) -> None:
    token = token_of(aud="another")
    async with served(valkey_url, files) as server:
        refused = await log_in(server, files, token)
        assert (refused.code, refused.stdout) == (6, b"")
        assert refused.stderr.count("\n") == 1
        assert "another audience" in refused.stderr
        assert token not in refused.stderr
        assert not contexts_path().exists()
        stored = await log_in(server, files, token, "--no-verify")
        assert stored.code == 0
        assert b"not verified" in stored.stdout
        assert read_contexts().by_name["127.0.0.1"].token == token


async def test_an_expired_token_says_how_to_log_in_again(valkey_url: str, files: CertificateFiles) -> None:
    async with served(valkey_url, files) as server:
        assert (await log_in(server, files, token_of(lifetime=-60, exp=1_000), "--no-verify")).code == 0
        for command in (["agents"], ["list"], ["--agent=agent123", "--type=PING"], ["get", UNKNOWN_ID], ["whoami"]):
            done = await run_sender("", *command)
            assert done.code == 6, command
            assert (
                done.stderr == "error: the token has expired; log in with: command-sender login --context 127.0.0.1\n"
            )
        listed = (await run_sender("", "context", "list")).stdout.decode()
        assert "1970-01-01T00:16:40Z (expired " in listed
        # Nothing but the token is asked for again.
        again = await run_sender("", "login", stdin=token_of().encode())
        assert again.code == 0, again.stderr
        assert (await run_sender("", "agents")).code == 0


async def test_after_a_logout_a_login_is_needed(valkey_url: str, files: CertificateFiles) -> None:
    async with served(valkey_url, files) as server:
        token = token_of()
        assert (await log_in(server, files, token)).code == 0
        assert (await run_sender("", "logout")).code == 0
        assert token not in contexts_path().read_text()
        done = await run_sender("", "agents")
        assert done.code == 6
        assert done.stderr.endswith("log in with: command-sender login --context 127.0.0.1\n")


async def test_the_prompt_shows_nothing_of_the_token(valkey_url: str, files: CertificateFiles) -> None:
    token = token_of()
    async with served(valkey_url, files) as server, Terminal() as terminal:
        process = await start_sender(
            "",
            "login",
            f"--server=127.0.0.1:{server.port}",
            f"--tls-ca={files.ca}",
            stdin=terminal.theirs,
            stderr=terminal.theirs,
            start_new_session=True,
        )
        await terminal.until("Token")
        terminal.type(f"{token}\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            stdout, _ = await process.communicate()
        assert stdout.startswith(b"Logged in to ")
    assert token[:20] not in terminal.ever_drawn


async def test_a_certificate_needs_no_token(
    valkey_url: str, files: CertificateFiles, maker: CertificateMaker, tmp_path: Path
) -> None:
    own = maker.service("billing").write(tmp_path, "billing")
    async with served(valkey_url, files, client_ca=files.ca, mtls_listen="127.0.0.1:0") as server:
        done = await run_sender(
            "",
            "login",
            f"--server=127.0.0.1:{server.mtls_port}",
            f"--tls-ca={files.ca}",
            f"--tls-cert={own.certificate}",
            f"--tls-key={own.key}",
        )
        assert done.code == 0, done.stderr
        assert b"as billing (no role)" in done.stdout
        me = (await run_sender("", "whoami", "-o", "json")).document
        assert (me["kind"], me["subject"]) == ("service", "billing")


async def test_a_file_that_others_may_read_is_not_used(valkey_url: str, files: CertificateFiles) -> None:
    store_context(Context("prod", "127.0.0.1:1", token=token_of()))
    contexts_path().chmod(0o644)
    for command in (["agents"], ["login"], ["logout"], ["context", "list"], ["context", "use", "prod"], ["whoami"]):
        done = await run_sender("", *command, stdin=b"x")
        assert done.code == 2, command
        assert f"chmod 600 {contexts_path()}" in done.stderr
        assert done.stderr.count("\n") == 1


async def test_a_server_without_authentication_says_so(valkey_url: str) -> None:
    async with serving(quick_settings(valkey_url)) as server:
        done = await run_sender("", "login", f"--server=127.0.0.1:{server.port}", "--context=dev", stdin=b"any")
        assert b"does not authenticate its callers" in done.stdout
        assert b"does not authenticate its callers" in (await run_sender("", "whoami")).stdout
        assert (await run_sender("", "whoami", "-o", "json")).document["insecure"] == ["unauthenticated"]


async def test_whoami_says_what_is_insecure_about_the_server(valkey_url: str, files: CertificateFiles) -> None:
    async with served(valkey_url, files, http_listen="0.0.0.0:0", insecure=True) as server:
        assert (await log_in(server, files, token_of())).code == 0
        assert (await run_sender("", "whoami", "-o", "json")).document["insecure"] == ["plain_http"]
        last = (await run_sender("", "whoami")).stdout.decode().splitlines()[-1]
        assert last == "Insecure: the server sends its metrics to other hosts in plain text."


@pytest.mark.parametrize("given", [b"", b" \n", b"two words", b"\xff\xfe", b"x" * 20_000, b"a\x1bb"])
async def test_what_is_no_token_is_refused_unseen(given: bytes) -> None:
    done = await run_sender("", "login", "--server=127.0.0.1:1", "--no-verify", stdin=given)
    assert done.code == 2
    assert "standard input" in done.stderr
    assert "words" not in done.stderr
    assert "xxx" not in done.stderr
    assert not contexts_path().exists()


async def test_without_a_current_context_there_is_nothing_to_show_or_leave() -> None:
    for command in (["logout"], ["context", "show"], ["context", "use", "x"], ["--context", "x", "agents"]):
        done = await run_sender("", *command)
        assert done.code == 4, command
        assert "context" in done.stderr
        assert done.stderr.count("\n") == 1
    assert (await run_sender("", "context", "list", "-o", "json")).document == []
