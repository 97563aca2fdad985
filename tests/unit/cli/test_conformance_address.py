"""Where `distributor conformance` may listen."""

from __future__ import annotations

from click.testing import CliRunner

from distributor.cli import distributor


def test_beyond_loopback_only_if_it_is_permitted() -> None:
    refused = CliRunner().invoke(distributor.main, ["conformance", "--listen=0.0.0.0:0", "--", "true"])
    assert refused.exit_code == 2
    assert "has neither TLS nor authentication: listen on loopback, add --tls, or add --insecure" in refused.output
    # The check that follows is the next to refuse.
    permitted = CliRunner().invoke(distributor.main, ["conformance", "--listen=0.0.0.0:0", "--insecure"])
    assert "--listen needs a port" in permitted.output
