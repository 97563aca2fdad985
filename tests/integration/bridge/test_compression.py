"""WebSocket messages travel uncompressed: each dashboard would cost memory and CPU for compression of its own."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.running_bridge import RunningBridge

OFFERS: Final = [
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover, permessage-deflate",
]


async def test_no_compression_is_negotiated_although_the_dashboard_offers_it(bridge: RunningBridge) -> None:
    async with bridge.stranger(compression="deflate") as dashboard:
        request, response = dashboard.socket.request, dashboard.socket.response
        assert request is not None
        assert response is not None
        assert "permessage-deflate" in request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in response.headers
        assert dashboard.socket.protocol.extensions == []
        assert (await dashboard.connect(bridge.token()))["type"] == "connected"


@pytest.mark.parametrize("offer", OFFERS)
async def test_no_form_of_the_offer_is_accepted(bridge: RunningBridge, offer: str) -> None:
    offered = {"Sec-WebSocket-Extensions": offer}
    async with bridge.stranger(compression=None, additional_headers=offered) as dashboard:
        response = dashboard.socket.response
        assert response is not None
        assert "Sec-WebSocket-Extensions" not in response.headers
        assert (await dashboard.connect(bridge.token()))["type"] == "connected"
