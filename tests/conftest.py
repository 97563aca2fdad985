"""Fixtures for every test: one real Valkey per worker process, emptied where a test asks for a clean one."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from valkey.asyncio import Valkey

from distributor.observability.logging import log_through_standard_library
from distributor.store.embedded import EmbeddedValkey
from tests.support.free_port import free_port

# The same examples in every run, and no limit on the time of one: a machine under load is no bug.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("repeatable")


PATIENCE_OF_A_TEST_SECONDS: Final = {"unit": 30.0}
"""Bound of a coroutine test by its ring, if not of all: single waits have PATIENCE_SECONDS or less."""

PATIENCE_OF_OTHERS_SECONDS: Final = 120.0


def pytest_collection_finish() -> None:
    """Keep modules and collected tests out of garbage collections, which would block loops for most of a second."""
    gc.collect()
    gc.freeze()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Cancel a coroutine test that hangs, so that its traceback shows what it waited for."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        ring = item.path.relative_to(Path(__file__).parent).parts[0]
        item.obj = _bounded(item.obj, PATIENCE_OF_A_TEST_SECONDS.get(ring, PATIENCE_OF_OTHERS_SECONDS))


def _bounded(test: Callable[..., Coroutine[Any, Any, None]], seconds: float) -> Callable[..., Any]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(*args, **kwargs)

    return bounded


# A run in the background of a shell ignores Ctrl-C, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests mean the same whatever the developer's shell exports."""
    for name in [name for name in os.environ if name.startswith("DISTRIBUTOR_")]:
        monkeypatch.delenv(name)


_state = tempfile.TemporaryDirectory(prefix="distributor-tests-")
os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"] = _state.name
"""For fixtures that outlive a test, and the programs that they start."""


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test meets the journal or the contexts of an earlier one, or of the developer."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Programs that run inside a test set up the logging of the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    if root.handlers is not handlers:
        root.handlers = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        log_through_standard_library()


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on; of this test alone."""
    with free_port() as port:
        yield port


@pytest.fixture(scope="session")
async def shared_valkey_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """URL of the one Valkey of this worker process. Tests want `valkey_url`, which is empty when they begin."""
    async with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey.url


@pytest.fixture
async def valkey_url(shared_valkey_url: str) -> str:
    """URL of a Valkey without keys. Functions stay: a server that tests share may be about to call one."""
    async with Valkey.from_url(shared_valkey_url) as client:
        await client.flushall()
    return shared_valkey_url
