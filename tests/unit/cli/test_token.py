from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from distributor.cli.distributor import bridge, main
from distributor.cli.token import seconds_of
from distributor.errors import ConfigurationError
from distributor.identity.tokens import Scope, TokenVerifier

KEY = "a key for nothing but tests, of 32 bytes at least"


def test_a_token_that_a_bridge_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_TOKEN_KEY", KEY)
    shown = CliRunner().invoke(main, ["token", "--subject", "alice", "--scope", "command:write"])
    assert shown.exit_code == 0, shown.output
    identity = TokenVerifier("command-distributor", KEY).verify(shown.output.strip())
    assert (identity.subject, identity.scopes) == ("alice", frozenset({Scope.WRITE}))


def test_the_key_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    shown = CliRunner().invoke(main, ["token", "--subject", "alice", "--token-key-file", str(tmp_path / "key")])
    identity = TokenVerifier("command-distributor", KEY).verify(shown.output.strip())
    assert identity.scopes == {Scope.READ}


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("366d", 31_622_400)]
)
def test_lifetimes(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "h", "1.5h", "367d", "9999999999"])
def test_lifetimes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--expires-in must be"):
        seconds_of(text)


def test_the_bridge_as_a_program_of_its_own_tells_mistakes_likewise() -> None:
    shown = CliRunner().invoke(bridge, ["--no-such"])
    assert (shown.exit_code, shown.stderr) == (2, "distributor: No such option '--no-such'.\n")


def test_help_and_version_are_data() -> None:
    for arguments in (["--help"], ["serve", "-h"], ["--version"]):
        shown = CliRunner().invoke(main, arguments)
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert shown.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["token", "--subject", "a"], {}, "tokens are signed with the bridge's key"),
        (["token", "--subject", "a"], {"TOKEN_KEY": "short"}, "must be at least 32 bytes, not 5"),
        (["token", "--subject", "a", "--token-key-file", "/nowhere"], {}, "cannot read /nowhere (token_key_file)"),
        (["token", "--subject", "a", "--expires-in", "soon"], {"TOKEN_KEY": KEY}, "--expires-in must be"),
        (["token", "--subject", ""], {"TOKEN_KEY": KEY}, "--subject must not be empty"),
        (["token", "--subject", "\udcff"], {"TOKEN_KEY": KEY}, "--subject must be UTF-8"),
        (["token", "--subject", "a", "--token-key-file", "/dev/null"], {}, "/dev/null (token_key_file) is empty"),
        (["bridge", "--public-key", __file__], {}, f"{__file__} (public_keys) is not a public key in PEM"),
        (["bridge"], {}, "no key to verify tokens: set token_key, token_key_file or public_keys"),
        (["bridge"], {"TOKEN_KEY": KEY}, "a bridge reads from the Valkey of its server: set valkey_url"),
        (["bridge"], {"TOKEN_KEY": KEY, "VALKEY_URL": "valkey://127.0.0.1:1"}, "cannot use the Valkey at"),
        (["bridge", "--public-key", "/nowhere"], {}, "cannot read /nowhere (public_keys)"),
        (["bridge", "--allow-origin", "foo"], {}, "distributor: --allow-origin must be an origin such as https://"),
        (["dev", "--bridge-listen=x", "--data-dir=/nowhere"], {}, "distributor: --bridge-listen must be host:port"),
        (["token"], {}, "distributor: Missing option '--subject'."),
        (["serve", "--no-such"], {}, "distributor: No such option '--no-such'."),
        (["serv"], {}, "distributor: No such command 'serv'. Did you mean 'serve'?"),
        (["bridge"], {"TOKEN_KEYS": KEY}, "unknown setting DISTRIBUTOR_BRIDGE_TOKEN_KEYS in the environment; did you"),
    ],
)
def test_mistakes_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"DISTRIBUTOR_BRIDGE_{name}", value)
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("distributor: ")
    assert said in line
    assert not any(value and value in line for name, value in environment.items() if name == "TOKEN_KEY")
