from __future__ import annotations

import pytest

from distributor.errors import ConfigurationError
from distributor.settings.store_address import Host, StoreKind, store_address


def test_one_valkey() -> None:
    for url in ("valkey://127.0.0.1:6379", "valkeys://user:p%40ss@host:1/2?x=y", "unix:///run/valkey.sock"):
        assert store_address(url) == (StoreKind.SINGLE, url, (), "")


def test_a_cluster() -> None:
    address = store_address("valkeys+cluster://user:p{a}ss@valkey-1:7000,valkey-2,[::1]:7002?ssl_ca_certs=/ca.pem")
    assert address.kind is StoreKind.CLUSTER
    assert address.hosts == (Host("valkey-1", 7000), Host("valkey-2", 6379), Host("::1", 7002))
    assert address.url_of(address.hosts[0]) == "valkeys://user:p{a}ss@valkey-1:7000?ssl_ca_certs=/ca.pem"
    assert address.url_of(address.hosts[2]) == "valkeys://user:p{a}ss@[::1]:7002?ssl_ca_certs=/ca.pem"


def test_sentinels() -> None:
    address = store_address("valkey+sentinel://a:1,b,c:3/control")
    assert (address.kind, address.service) == (StoreKind.SENTINEL, "control")
    assert address.hosts == (Host("a", 1), Host("b", 26_379), Host("c", 3))
    assert address.url_of(address.hosts[0]) == "valkey://a:1"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("valkey+ring://a", "valkey+ring:// is not known"),
        ("http+cluster://a", "http+cluster:// is not known"),
        ("valkey+cluster://", "names no host"),
        ("valkey+cluster://a,,b", "'' is not a host and a port"),
        ("valkey+cluster://a:0", "'a:0' is not a host and a port"),
        ("valkey+cluster://a:70000", "'a:70000' is not a host and a port"),
        ("valkey+cluster://a:x", "'a:x' is not a host and a port"),
        ("valkey+cluster://a/1", "only database 0"),
        ("valkey+sentinel://a:1,b:2", "the name of the primary is missing"),
    ],
)
def test_what_is_no_address(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match="valkey_url is no address") as raised:
        store_address(url)
    assert said in str(raised.value)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ConfigurationError) as raised:
        store_address("valkey+cluster://user:secret@a:x")
    assert "secret" not in str(raised.value)
