from __future__ import annotations

from pathlib import Path

import pytest

from distributor.errors import ConfigurationError, NotFound
from distributor.settings.caller_settings import CallerSettings, load_caller_settings
from distributor.settings.contexts import Context, store_context

PROD = Context("prod", "prod:1", tls_ca=Path("/prod.pem"), token="prod-token")
TEST = Context("test", "test:1", tls_cert=Path("/cert.pem"), tls_key=Path("/key.pem"))


@pytest.fixture(autouse=True)
def contexts() -> None:
    store_context(PROD, use=True)
    store_context(TEST)


def target(found: CallerSettings) -> tuple[str, Path | None, str, str]:
    settings = found.settings
    context = found.context.name if found.context else ""
    return settings.server, settings.tls_ca, settings.token.get_secret_value(), context


def test_the_current_context_counts_where_nothing_names_a_server() -> None:
    assert target(load_caller_settings()) == ("prod:1", Path("/prod.pem"), "prod-token", "prod")


def test_a_context_by_flag() -> None:
    found = load_caller_settings(None, "test")
    assert target(found) == ("test:1", None, "", "test")
    assert found.settings.tls_cert == Path("/cert.pem")
    assert found.identified
    with pytest.raises(NotFound, match="known: prod, test"):
        load_caller_settings(None, "other")


def test_credentials_of_a_context_never_go_to_another_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert target(load_caller_settings(server="other:1")) == ("other:1", None, "", "")
    config = tmp_path / "settings.toml"
    config.write_text('[client]\nserver = "file:1"\n')
    assert target(load_caller_settings(config)) == ("file:1", None, "", "")
    monkeypatch.setenv("DISTRIBUTOR_SERVER", "env:1")
    assert target(load_caller_settings(config)) == ("env:1", None, "", "")


def test_a_named_context_keeps_environment_and_file_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[client]\nserver = "file:1"\ncompression = "off"\n')
    monkeypatch.setenv("DISTRIBUTOR_SERVER", "env:1")
    monkeypatch.setenv("DISTRIBUTOR_TOKEN", "env-token")
    monkeypatch.setenv("DISTRIBUTOR_TLS_CA", "/env.pem")
    found = load_caller_settings(config, "test")
    assert target(found) == ("test:1", None, "", "test")
    assert found.settings.compression == "off"


def test_flags_add_to_a_named_context() -> None:
    found = load_caller_settings(None, "prod", server="replica:1", token_file=Path("/token"))
    assert target(found) == ("replica:1", Path("/prod.pem"), "", "prod")
    assert found.settings.token_file == Path("/token")


def test_an_identity_from_elsewhere_takes_the_place_of_that_of_the_current_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_TOKEN_FILE", "/token")
    found = load_caller_settings(tls_ca=Path("/other.pem"))
    assert target(found) == ("prod:1", Path("/other.pem"), "", "prod")
    assert found.settings.token_file == Path("/token")


def test_without_contexts_nothing_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert target(load_caller_settings()) == ("127.0.0.1:50051", None, "", "")
    assert not load_caller_settings().identified


def test_a_wrong_value_in_a_context_names_it() -> None:
    store_context(Context("odd", "no port", token="secret-token"), use=True)
    with pytest.raises(ConfigurationError, match="server of the context odd must be host:port") as caught:
        load_caller_settings()
    assert "secret-token" not in str(caught.value)
