"""A TLS server in front of a Valkey that speaks plain text on a Unix socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

from tests.support.certificates import CertificateMaker


class TlsRelay:
    """Relays each connection to the socket until either side ends it."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        """Its address, with the password and the certificate to trust."""
        self.bare_url = ""
        """The same without a certificate to trust."""
        self.port = 0
        self.peers: list[bytes] = []
        """The client certificate (DER) of each connection that had one."""

    def drop(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if shown:
            self.peers.append(shown)
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._socket)
        self._writers |= {writer, inner_writer}
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        self._writers -= {writer, inner_writer}


@asynccontextmanager
async def tls_relay(
    valkey_url: str, folder: Path, maker: CertificateMaker | None = None, *, mutual: bool = False
) -> AsyncIterator[TlsRelay]:
    """A relay to the embedded Valkey at `valkey_url`. If `mutual`, it requires client certificates of `maker`."""
    user, _, path = valkey_url.removeprefix("unix://").partition("@")
    relay = TlsRelay(unquote(path))
    files = (maker or CertificateMaker()).server("127.0.0.1").write(folder, "relay")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if mutual:
        context.load_verify_locations(files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(relay.relay, "127.0.0.1", 0, ssl=context)
    relay.port = server.sockets[0].getsockname()[1]
    relay.bare_url = f"valkeys://{user}@127.0.0.1:{relay.port}"
    relay.url = f"{relay.bare_url}?ssl_ca_certs={files.ca}"
    try:
        yield relay
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
