from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from distributor.errors import ConfigurationError
from distributor.observability.http import HttpEndpoint, observability_app
from distributor.observability.metrics import Metrics
from tests.support.waiting import PATIENCE_SECONDS


class Site:
    """An endpoint that runs, and what it serves."""

    def __init__(self, port: int = 0) -> None:
        self.metrics = Metrics()
        self.faults: dict[str, str | None] = {"valkey": None, "events": None}
        checks = {"valkey": lambda: self.faults["valkey"], "events": lambda: self.faults["events"]}
        self.endpoint = HttpEndpoint(f"127.0.0.1:{port}", observability_app(self.metrics.registry, checks))

    async def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Status, content type and body."""
        return await asyncio.to_thread(self._get, path, method)

    def _get(self, path: str, method: str) -> tuple[int, str, str]:
        request = Request(f"http://127.0.0.1:{self.endpoint.port}{path}", method=method)
        try:
            with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.headers["content-type"], answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.headers["content-type"], error.read().decode()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.endpoint.start()
    yield site
    await site.endpoint.stop()


async def test_metrics_are_what_prometheus_reads(site: Site) -> None:
    site.metrics.agents_connected(3)
    status, content_type, body = await site.get("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert families["distributor_agents_connected"].samples[0].value == 3
    assert families["distributor_stage_seconds"].type == "histogram"


async def test_healthz_says_only_that_the_process_lives(site: Site) -> None:
    site.faults["valkey"] = "gone"
    assert await site.get("/healthz") == (200, "text/plain; charset=utf-8", "ok\n")


async def test_readyz_names_the_check_that_fails(site: Site) -> None:
    status, _, body = await site.get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "checks": {"valkey": "ok", "events": "ok"}})
    site.faults["valkey"] = "no answer for 3 s"
    status, _, body = await site.get("/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "checks": {"valkey": "no answer for 3 s", "events": "ok"}}


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 405)])
async def test_nothing_else_is_served(site: Site, path: str, method: str, status: int) -> None:
    assert (await site.get(path, method))[0] == status


@pytest.mark.parametrize("setting", ["http_listen", "listen in [bridge]"])
async def test_a_second_one_on_the_same_port_is_refused_by_name(site: Site, setting: str) -> None:
    address = f"127.0.0.1:{site.endpoint.port}"
    second = HttpEndpoint(address, observability_app(Metrics().registry, {}), setting=setting)
    with pytest.raises(ConfigurationError) as refused:
        await second.start()
    assert refused.value.message.startswith(f"cannot listen on {address} ({setting}): Address already in use")
    assert (await site.get("/healthz"))[0] == 200


async def test_signals_stay_with_the_process() -> None:
    before = signal.getsignal(signal.SIGINT)
    site = Site()
    await site.endpoint.start()
    assert signal.getsignal(signal.SIGINT) is before
    await site.endpoint.stop()
    await site.endpoint.stop()


async def test_it_can_be_started_again_on_its_port(port: int) -> None:
    for _ in range(2):
        site = Site(port)
        await site.endpoint.start()
        assert (await site.get("/healthz"))[0] == 200
        await site.endpoint.stop()
