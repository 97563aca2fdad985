from __future__ import annotations

import pytest
from pydantic import ValidationError

from distributor.identity.authenticator import AUTHORIZATION, ON_BEHALF_OF
from distributor.identity.tokens import MAX_TOKEN_CHARACTERS
from distributor.settings import ServerSettings
from distributor.settings.connection_limits import MIN_MESSAGE_BYTES, MIN_METADATA_BYTES
from distributor.wire import transport
from distributor.wire.client_address import CLIENT_ADDRESS


def test_the_defaults_are_those_of_the_transport() -> None:
    settings = ServerSettings()
    assert settings.max_message_bytes == transport.MAX_MESSAGE_BYTES
    assert settings.max_metadata_bytes == transport.MAX_METADATA_BYTES
    assert settings.handshake_timeout * 1000 == transport.HANDSHAKE_TIMEOUT_MS
    assert settings.idle_connection_timeout * 1000 == transport.IDLE_TIMEOUT_MS


def test_two_tokens_fit_whatever_is_set() -> None:
    names = len(AUTHORIZATION) + len("Bearer ") + len(ON_BEHALF_OF) + len(CLIENT_ADDRESS)
    address_and_others = 512
    assert 2 * MAX_TOKEN_CHARACTERS + names + address_and_others <= MIN_METADATA_BYTES
    with pytest.raises(ValidationError, match="max_metadata_bytes"):
        ServerSettings(max_metadata_bytes=MIN_METADATA_BYTES - 1)


def test_twenty_results_must_fit_into_a_message() -> None:
    with pytest.raises(ValidationError, match=r"max_message_bytes .* must be at least 8,257,536, .* max_result_bytes"):
        ServerSettings(max_message_bytes=MIN_MESSAGE_BYTES, max_result_bytes=384 * 1_024)
    ServerSettings(max_message_bytes=8_257_536, max_result_bytes=384 * 1_024)
