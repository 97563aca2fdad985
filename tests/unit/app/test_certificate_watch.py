"""Certificates that expire are measured and logged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from distributor.app.certificate_watch import REPEAT_SECONDS, CertificateWatch
from distributor.wire.certificate_files import CertificateFiles, PemPaths
from tests.support.certificates import CertificateMaker

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400.0
LIFETIME = timedelta(days=90)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maker = CertificateMaker()
        self.replace(START, LIFETIME)
        written = folder / "own.pem", folder / "own-key.pem"
        self.registry = CollectorRegistry()
        files = {"listen": CertificateFiles(PemPaths(*written)), "valkey": CertificateFiles(PemPaths())}
        self.watch = CertificateWatch(files, self.registry)

    def replace(self, start: datetime, lifetime: timedelta) -> None:
        self.maker.server(valid_from=start, lifetime=lifetime).write(self.folder, "own")

    def at(self, days: float) -> list[tuple[str, str]]:
        """The level and text of each line at so many days after START."""
        with capture_logs() as logs:
            self.watch.run_once(START.timestamp() + days * DAY)
        assert all(line["endpoint"] == "listen" and line["file"].endswith("own.pem") for line in logs)
        return [(line["log_level"], line["event"]) for line in logs]

    @property
    def seconds(self) -> float | None:
        return self.registry.get_sample_value("distributor_certificate_expires_seconds", {"endpoint": "listen"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_seconds_that_are_left(world: World) -> None:
    world.at(1)
    assert world.seconds == 89 * DAY
    world.at(91)
    assert world.seconds == -DAY
    absent = world.registry.get_sample_value("distributor_certificate_expires_seconds", {"endpoint": "valkey"})
    assert absent is None


def test_lines_before_and_after_the_end(world: World) -> None:
    soon, expired = ("warning", "the certificate expires soon"), ("error", "the certificate has expired")
    assert world.at(75) == []
    assert world.at(76.5) == [soon]
    assert world.at(76.6) == []
    assert world.at(76.5 + REPEAT_SECONDS / DAY) == [soon]
    assert world.at(90) == [expired]
    assert world.at(90.1) == []
    assert world.at(-1) == [("error", "the certificate is not valid yet")]


def test_a_renewed_certificate_is_fine_again(world: World) -> None:
    assert world.at(89)
    world.replace(START + LIFETIME, LIFETIME)
    assert world.at(90.5) == []
    assert world.seconds == 89.5 * DAY


def test_a_file_that_is_gone_ends_nothing(world: World) -> None:
    (world.folder / "own.pem").unlink()
    with capture_logs() as logs:
        world.watch.run_once(START.timestamp())
    assert [line["event"] for line in logs] == ["a certificate cannot be read"]


def test_a_short_lived_certificate_is_not_always_about_to_expire(world: World) -> None:
    world.replace(START, timedelta(days=1))
    assert world.at(0.5) == []
    assert world.at(0.9) == [("warning", "the certificate expires soon")]
