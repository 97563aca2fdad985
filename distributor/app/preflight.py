"""Checks before startup whether another process uses the addresses or the data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from distributor.errors import ConfigurationError
from distributor.settings import ServerSettings, split_address
from distributor.store.data_dir_lock import DataDirLock
from distributor.wire.listening import check_free


def check_server_addresses(settings: ServerSettings) -> None:
    """Raise one ConfigurationError for all addresses of a server that are unavailable; see `check_addresses`."""
    listening = {name: getattr(settings, name) for name in ("listen", "http_listen", "mtls_listen")}
    check_addresses(
        {name: address for name, address in listening.items() if address},
        None if settings.valkey_url else settings.data_dir,
    )


def check_addresses(addresses: Mapping[str, str], data_dir: Path | None) -> None:
    """Raise one ConfigurationError for all unavailable `addresses`, which are "host:port" by setting.

    If another server uses `data_dir` as well, the error says so: usually a server was started twice. A data folder in
    use is no error if the addresses are free, as the previous server may still be stopping.
    """
    problems = []
    for setting, address in addresses.items():
        try:
            if split_address(address)[1]:
                check_free(address, setting)
        except ConfigurationError as error:
            problems.append(error)
    if not problems:
        return
    holder = DataDirLock(data_dir).holder() if data_dir is not None else ""
    if len(problems) == 1 and not holder:
        raise problems[0]
    said = [f"{error.metadata['address']} ({error.field}): {error.metadata['why']}" for error in problems]
    in_use = f"; the data folder {data_dir} is in use by another server (process {holder})" if holder else ""
    raise ConfigurationError(
        f"cannot listen on {', '.join(said)}{in_use}; if a server is already running, stop it, or give this one other "
        f"addresses{' and another data_dir' if holder else ''}",
        reason="CANNOT_LISTEN",
    )
