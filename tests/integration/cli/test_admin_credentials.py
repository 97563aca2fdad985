"""Where commands for administrators find a server and credentials."""

from __future__ import annotations

import getpass
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.app.server_process import ServerProcess, serving
from distributor.settings.contexts import Context, store_context
from tests.support.certificates import CertificateFiles, CertificateMaker
from tests.support.launched_sender import ROOT, run_sender
from tests.support.running_server import quick_settings
from tests.support.token_issuer import KEY, signed

LAUNCHER = ROOT / "cmd" / "distributor_server.py"
READING = (["stops"], ["revocations"])


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateMaker().server().write(tmp_path, "server")


@pytest.fixture
async def server(valkey_url: str, files: CertificateFiles) -> AsyncIterator[ServerProcess]:
    settings = quick_settings(valkey_url, tls_cert=files.certificate, tls_key=files.key, token_key=KEY)
    async with serving(settings) as process:
        yield process


def token_of(role: str, **changes: object) -> str:
    return signed(scope="", roles=[role], **changes)


async def administer(*arguments: str) -> tuple[int, str, str]:
    """Run `distributor`: exit code, stdout, stderr."""
    done = await run_sender("", *arguments, launcher=LAUNCHER)
    return done.code, done.stdout.decode(), done.stderr


async def test_they_use_contexts(server: ServerProcess, files: CertificateFiles) -> None:
    address = f"127.0.0.1:{server.port}"
    store_context(Context("prod", address, tls_ca=files.ca, token=token_of("admin")))
    store_context(Context("low", address, tls_ca=files.ca, token=token_of("operator")))
    store_context(Context("late", address, tls_ca=files.ca, token=token_of("admin", exp=1_000)))
    for command in READING:
        code, _, stderr = await administer(*command)
        assert code == 0, stderr
        assert (await administer(*command, "--context", "prod"))[0] == 0
        code, _, stderr = await administer(*command, "--context", "low")
        assert code == 6
        assert re.match(r"distributor: [A-Z]\w+ needs the role admin, and ", stderr)
        code, _, stderr = await administer(*command, "--context", "late")
        assert code == 6
        assert stderr == "distributor: the token has expired; log in with: command-sender login --context late\n"


async def test_options_name_a_server_and_credentials(
    server: ServerProcess, files: CertificateFiles, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(token_of("admin"))
    target = (f"--server=127.0.0.1:{server.port}", f"--tls-ca={files.ca}")
    for command in READING:
        assert (await administer(*command, *target, f"--token-file={token_file}"))[0] == 0
        code, _, stderr = await administer(*command, *target)
        assert code == 6
        assert f"log in with: command-sender login --server 127.0.0.1:{server.port}\n" in stderr


async def test_they_revoke_services(server: ServerProcess, files: CertificateFiles) -> None:
    store_context(Context("prod", f"127.0.0.1:{server.port}", tls_ca=files.ca, token=token_of("admin")))
    code, stdout, stderr = await administer("revoke", "--service", "billing", "--reason", "stolen")
    assert code == 0, stderr
    assert "service billing" in stdout
    assert "service billing" in (await administer("revocations"))[1]
    assert "service billing was issued counts again" in (await administer("restore", "--service", "billing"))[2]
    assert "nothing is revoked" in (await administer("revocations"))[1]
    for both in (["revoke", "press-7", "--service", "billing"], ["restore", "press-7", "--service", "billing"]):
        assert (await administer(*both))[0] == 2


async def test_on_the_machine_of_the_server_its_key_is_enough(
    server: ServerProcess, files: CertificateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_TOKEN_KEY", KEY)
    monkeypatch.setenv("DISTRIBUTOR_SERVER", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("DISTRIBUTOR_TLS_CA", str(files.ca))
    for command in READING:
        code, _, stderr = await administer(*command)
        assert code == 0, stderr
    _, stdout, _ = await administer("stop", "--on=web-9", "-o", "json")
    assert f'"stoppedBy": "local:{getpass.getuser()}"' in stdout
    # It comes before the current context, though not before one that is named.
    monkeypatch.delenv("DISTRIBUTOR_SERVER")
    config = tmp_path / "settings.toml"
    config.write_text(f'[server]\ntoken_key = "{KEY}"\n[client]\nserver = "127.0.0.1:{server.port}"\n')
    monkeypatch.delenv("DISTRIBUTOR_TOKEN_KEY")
    low = Context("low", f"127.0.0.1:{server.port}", tls_ca=files.ca, token=token_of("operator"))
    store_context(low, use=True)
    assert (await administer("stops", f"--config={config}"))[0] == 0
    monkeypatch.setenv("DISTRIBUTOR_CONFIG", str(config))
    assert (await administer("stops"))[0] == 0
    assert (await administer("stops", "--context=low"))[0] == 6
    # A context is complete: no token of this machine goes to its server.
    store_context(Context("bare", f"127.0.0.1:{server.port}", tls_ca=files.ca))
    assert (await administer("stops", "--context", "bare"))[0] == 6
