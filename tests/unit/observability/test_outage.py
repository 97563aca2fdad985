from __future__ import annotations

from distributor.observability.outage import Outage
from tests.support.own_logs import own_logs


def test_only_the_first_failure_and_the_recovery_are_told() -> None:
    outage = Outage("sweep")
    with own_logs() as logs:
        outage.recovered()
        for _ in range(3):
            outage.failed(OSError("gone"))
        outage.recovered()
        outage.recovered()
        outage.failed(OSError("gone again"))
    assert [(line["log_level"], line["event"], line.get("error")) for line in logs] == [
        ("warning", "cannot sweep", "gone"),
        ("info", "can sweep again", None),
        ("warning", "cannot sweep", "gone again"),
    ]
    assert logs[1]["after_seconds"] >= 0
