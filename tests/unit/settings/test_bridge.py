from __future__ import annotations

from pathlib import Path

import pytest

from distributor.errors import ConfigurationError
from distributor.settings import load_bridge_settings

KEY = "a key for nothing but tests, of 32 bytes at least"


def test_a_key_is_not_shown() -> None:
    settings = load_bridge_settings(token_key=KEY)
    assert settings.shared_keys() == [KEY]
    assert KEY not in repr(settings)
    with pytest.raises(ConfigurationError) as caught:
        load_bridge_settings(token_key="too short a secret")
    assert "too short a secret" not in str(caught.value)


def test_one_key_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="token_key and token_key_file are both set"):
        load_bridge_settings(token_key=KEY, token_key_file=[tmp_path])


def test_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_ALLOWED_ORIGINS", "https://a.example, http://b.example:8080")
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_PUBLIC_KEYS", "/a.pem, /b.pem")
    settings = load_bridge_settings()
    assert settings.allowed_origins == ("https://a.example", "http://b.example:8080")
    assert settings.public_keys == (Path("/a.pem"), Path("/b.pem"))


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "ftp://a.example", "https://a.example/path", ""])
def test_origins_that_are_none(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="must be an origin"):
        load_bridge_settings(allowed_origins=[origin])
