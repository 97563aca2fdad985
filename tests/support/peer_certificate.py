"""The certificate that a new connection is shown."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path


async def peer_certificate(port: int, ca: Path) -> bytes:
    """The certificate (PEM) at a port of this host, verified against `ca` and the host's address."""
    context = ssl.create_default_context(cafile=ca)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return ssl.DER_cert_to_PEM_cert(shown).encode()
    finally:
        writer.close()
        await writer.wait_closed()
