from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError, NotFound
from distributor.settings.contexts import (
    Context,
    Contexts,
    change_contexts,
    context_name_of,
    contexts_path,
    read_contexts,
    store_context,
)

SECRET = "eyJhbGciOiJIUzI1NiJ9.secret.signature"
FULL = Context(
    "prod",
    "a:1,b:2",
    tls=True,
    tls_ca=Path('/c a/"quoted"\\ä\x7f.pem'),
    tls_cert=Path("/cert.pem"),
    tls_key=Path("/key.pem"),
    insecure=True,
    token=SECRET,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_stored_is_read_whatever_it_contains() -> None:
    assert read_contexts() == Contexts()
    store_context(Context("dev", "127.0.0.1:1"))
    store_context(FULL, use=True)
    assert read_contexts() == Contexts("prod", {"dev": Context("dev", "127.0.0.1:1"), "prod": FULL})


def test_only_the_user_may_read_the_file() -> None:
    previous = os.umask(0)
    try:
        store_context(FULL)
    finally:
        os.umask(previous)
    assert mode_of(contexts_path()) == 0o600
    assert mode_of(contexts_path().parent) == 0o700
    assert [path.name for path in contexts_path().parent.iterdir()] == ["contexts.toml"]


def test_a_context_is_current_if_wanted_or_if_none_is() -> None:
    assert store_context(Context("one", "a:1")).current == "one"
    assert store_context(Context("two", "a:1")).current == "one"
    assert store_context(Context("two", "b:1"), use=True).current == "two"
    assert change_contexts(lambda contexts: contexts.using("one")).current == "one"
    assert change_contexts(lambda contexts: contexts.without("one")).current == ""
    assert store_context(Context("three", "a:1")).current == "three"


@pytest.mark.parametrize("change", [lambda contexts: contexts.using("x"), lambda contexts: contexts.without("x")])
def test_an_unknown_context_is_not_found_and_changes_nothing(change: Callable[[Contexts], Contexts]) -> None:
    store_context(FULL)
    before = contexts_path().read_bytes()
    with pytest.raises(NotFound, match="there is no context 'x'; known: prod"):
        change_contexts(change)
    assert contexts_path().read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o777, 0o610])
def test_a_file_that_others_may_use_is_refused(mode: int) -> None:
    store_context(FULL)
    contexts_path().chmod(mode)
    for use in (read_contexts, lambda: store_context(FULL)):
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600 {contexts_path()}") as caught:
            use()
        assert SECRET not in str(caught.value)


def test_a_folder_in_which_others_may_write_is_refused() -> None:
    store_context(FULL)
    contexts_path().parent.chmod(0o770)
    for use in (read_contexts, lambda: store_context(FULL)):
        with pytest.raises(ConfigurationError, match="chmod 700"):
            use()


def test_a_file_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store_context(FULL)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        read_contexts()


def test_no_link_pipe_or_folder_is_read(tmp_path: Path) -> None:
    store_context(FULL)
    path = contexts_path()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_contexts()
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="is not a file"):
        read_contexts()
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="is not a file"):
        read_contexts()


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}",
        'contexts = "x"',
        "current = 1",
        "unknown = 1",
        f'[contexts.a]\nserver = "a:1"\ntokens = "{SECRET}"',
        f'[contexts.a]\ntoken = "{SECRET}"',
        f'[contexts.a]\nserver = "a:1"\ntls = "{SECRET}"',
        '[contexts.a]\nserver = "a:1"\ntls_ca = true',
        '[contexts."a b"]\nserver = "a:1"',
        "[contexts]\na = 1",
        "\ud800",
    ],
)
def test_what_is_not_a_list_of_contexts_is_refused_without_repeating_it(text: str) -> None:
    store_context(FULL)
    contexts_path().write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ConfigurationError, match=str(contexts_path())) as caught:
        read_contexts()
    assert SECRET not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read() -> None:
    store_context(FULL)
    contexts_path().write_text("#" * 1_048_577)
    with pytest.raises(ConfigurationError, match="is over 1,048,576 bytes"):
        read_contexts()


def test_what_cannot_be_written_leaves_the_old_file() -> None:
    store_context(FULL)
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        store_context(Context("odd", "a:1", tls_ca=Path("/\udcff")))
    with pytest.raises(ConfigurationError, match="the name of a context must be"):
        store_context(Context("../x", "a:1"))
    assert read_contexts() == Contexts("prod", {"prod": FULL})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    store_context(FULL)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        store_context(Context("new", "a:1"))
    assert [path.name for path in contexts_path().parent.iterdir()] == ["contexts.toml"]
    assert read_contexts() == Contexts("prod", {"prod": FULL})


def test_changes_at_the_same_time_are_all_kept() -> None:
    names = [f"c{number}" for number in range(20)]
    threads = [threading.Thread(target=store_context, args=(Context(name, "a:1"),)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_contexts().by_name) == sorted(names)


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ("srv1.example.org:50051", "srv1.example.org"),
        ("a:1,b:2", "a"),
        ("[::1]:50051", "1"),
        ("[fe80::1]:1", "fe80-1"),
        ("ä:1", "default"),
    ],
)
def test_a_context_is_named_after_its_host(server: str, name: str) -> None:
    assert context_name_of(server) == name


def test_a_context_does_not_show_its_token() -> None:
    assert SECRET not in repr(FULL)
