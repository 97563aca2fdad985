"""Command lines against a real server on a real Valkey, with faults to inject in between."""

from __future__ import annotations

from tests.support.faulty_server import agent, faults, running, server, shared_faulty_server
from tests.support.shared_server import shared_valkey_url

__all__ = ["agent", "faults", "running", "server", "shared_faulty_server", "shared_valkey_url"]
