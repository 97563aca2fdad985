"""A whole server, shared by the tests of this folder."""

from __future__ import annotations

from tests.support.shared_server import server, shared_server, shared_valkey_url

__all__ = ["server", "shared_server", "shared_valkey_url"]
