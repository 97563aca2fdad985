"""Enrols an agent: makes its key on this host, and exchanges a token for a certificate."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from distributor.agent.identity_files import EnrolmentFacts, IdentityFiles
from distributor.client.enrolment_client import EnrolmentClient
from distributor.errors import FailedPrecondition
from distributor.identity.certificates import certificate_part
from distributor.identity.enrolment_tokens import parsed_token
from distributor.identity.private_keys import new_key, private_key, private_pem
from distributor.identity.renewal_proof import sign_renewal
from distributor.identity.signing_requests import signing_request
from distributor.wire.credentials import ClientCredentials, Connector


class EnrolmentOrder(NamedTuple):
    """Which agent to enrol, and where: `server` is `host:port`, or several addresses separated by commas.

    `credentials` name the authorities by which to recognise the server; a certificate in the token takes precedence.
    """

    agent_id: str
    server: str
    token: str
    credentials: ClientCredentials
    replace: bool = False


async def enrol(order: EnrolmentOrder, files: IdentityFiles) -> EnrolmentFacts:
    """Enrol and write the files. Raises InvalidArgument for the token, and what the server answers."""
    secret, ca_pem = parsed_token(order.token.strip())
    key = new_key()
    with tempfile.TemporaryDirectory(prefix="enrol-") as folder:
        client = EnrolmentClient(order.server, Connector(_trusting(order.credentials, ca_pem, Path(folder))))
        token = f"{secret.token_id}.{secret.secret}"
        enrolled = await client.enrol(token, order.agent_id, signing_request(key), order.replace)
    if not enrolled.servers:
        raise FailedPrecondition("the server has no address for agents with certificates: set mtls_listen there")
    facts = EnrolmentFacts(order.agent_id, enrolled.servers, order.server, enrolled.trust_domain, dict(enrolled.labels))
    trusted = enrolled.certificate.server_ca or ca_pem
    if not trusted and order.credentials.ca is not None:
        trusted = order.credentials.ca.read_bytes()
    files.create(private_pem(key), enrolled.certificate.chain, trusted, facts)
    return facts


async def renew_expired(files: IdentityFiles) -> None:
    """Renew an expired certificate where the agent enrolled, and write it with its new key.

    Raises FailedPrecondition after the grace, Unauthenticated if it is revoked, and Unavailable if no server answers.
    """
    credential, key = files.credential_pem(), new_key()
    request = signing_request(key)
    # Without the certificate: TLS does not accept it any more.
    trusting = ClientCredentials(ca=files.trusted, tls=True)
    client = EnrolmentClient(files.facts().enrolled_at, Connector(trusting))
    sign = partial(_proof, credential, request)
    issued = await client.renew(certificate_part(credential), request, sign)
    if issued.server_ca:
        files.replace_server_ca(issued.server_ca)
    files.replace_credential(private_pem(key), issued.chain)


def _proof(credential_pem: bytes, request_pem: bytes, challenge: bytes) -> bytes:
    return sign_renewal(private_key(credential_pem), challenge, request_pem)


def _trusting(credentials: ClientCredentials, ca_pem: bytes, folder: Path) -> ClientCredentials:
    """Recognise the server by the certificate in the token, if there is one. No credential is sent to it."""
    plain = replace(credentials, certificate=None, key=None, token="", token_file=None, tls=True)
    if not ca_pem:
        return plain
    path = folder / "ca.pem"
    path.write_bytes(ca_pem)
    return replace(plain, ca=path)
