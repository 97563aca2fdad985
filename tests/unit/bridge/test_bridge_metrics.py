"""What a bridge counts is counted by those whose work it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.dashboard_session import DashboardLimits, DashboardSession, PeerGone, SessionServices
from distributor.bridge.requests import Connect, Topics
from distributor.client import CommandClient
from tests.support.dashboard_credentials import credential, credential_check
from tests.unit.bridge.test_dashboard_session import Peer, SnapshotSync


async def test_output_that_was_cut_is_counted_when_the_dashboard_leaves() -> None:
    metrics, peer = BridgeMetrics(), Peer()
    peer.gone = True
    services = SessionServices(*([cast(Any, None)] * 8))._replace(
        credentials=credential_check(),
        calls=CommandCalls(CommandClient("127.0.0.1:1")),
        hub=cast(Any, SimpleNamespace(dashboards=set(), delivered_until="1-0")),
        snapshots=cast(Any, SnapshotSync()),
        metrics=metrics,
        limits=DashboardLimits(5.0, 131_072, 10.0, 16, 1_048_576),
    )
    dashboard = Dashboard("id", credential(), DashboardOutbox())
    dashboard.outbox.cut_bytes = 66
    with pytest.raises(PeerGone):
        await DashboardSession(peer, dashboard, services).run(Connect("token", Topics(), None))
    assert metrics.registry.get_sample_value("distributor_bridge_output_cut_bytes_total") == 66
