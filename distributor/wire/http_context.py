"""The TLS context of HTTP servers, which follows the certificate files."""

from __future__ import annotations

import contextlib
import ssl

from distributor.wire.certificate_files import CertificateFiles


def http_server_context(files: CertificateFiles) -> ssl.SSLContext:
    """The TLS context of an HTTP server. Raises ConfigurationError for unusable files.

    With authorities among the files, peers may present a client certificate; one that these have not signed, or that
    has expired, ends the handshake.
    """
    given = files.load()
    context = _http_context(files)

    def choose(connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        nonlocal given, context
        current = files.current()
        if current != given:
            # The files may have been replaced again, by unusable ones: the next connection tries again.
            with contextlib.suppress(OSError):
                context, given = _http_context(files), current
        connection.context = context

    first = context
    first.sni_callback = choose
    return first


def _http_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert files.paths.certificate is not None
    context.load_cert_chain(files.paths.certificate, files.paths.key, password="")
    if files.paths.authorities is not None:
        context.load_verify_locations(cafile=files.paths.authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
        # A resumed session is not verified again: none may outlive the authorities that it was verified by.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
    return context
