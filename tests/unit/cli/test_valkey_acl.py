"""`distributor valkey-acl`."""

from __future__ import annotations

from click.testing import CliRunner

from distributor.cli import distributor
from distributor.store.access_rules import access_line


def test_it_prints_one_line() -> None:
    for arguments, line in (
        (["valkey-acl"], access_line("distributor", "server")),
        (["valkey-acl", "--user=reader", "--for=bridge"], access_line("reader", "bridge")),
    ):
        outcome = CliRunner().invoke(distributor.main, arguments)
        assert (outcome.exit_code, outcome.output) == (0, f"{line}\n")


def test_a_name_with_a_space_is_refused() -> None:
    outcome = CliRunner().invoke(distributor.main, ["valkey-acl", "--user=a +@all"])
    assert outcome.exit_code == 2
    assert "--user must be a name without spaces" in outcome.output
