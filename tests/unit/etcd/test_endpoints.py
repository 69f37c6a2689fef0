import pytest

from coordd.etcd.endpoints import parse_endpoints
from coordd.etcd.errors import EndpointInvalid


@pytest.mark.parametrize(
    ("text", "name", "host", "port"),
    [
        ("localhost:2379", "localhost:2379", "localhost", 2379),
        (" etcd-0.svc:2379 ", "etcd-0.svc:2379", "etcd-0.svc", 2379),
        ("10.0.0.1:2379", "10.0.0.1:2379", "10.0.0.1", 2379),
        ("[::1]:2379", "[::1]:2379", "::1", 2379),
        ("http://etcd:2379/", "etcd:2379", "etcd", 2379),
        ("unix:///run/etcd.sock", "unix:///run/etcd.sock", "/run/etcd.sock", 0),
    ],
)
def test_spellings(text: str, name: str, host: str, port: int) -> None:
    (endpoint,) = parse_endpoints([text], tls=False)
    assert (endpoint.name, endpoint.host, endpoint.port) == (name, host, port)


def test_a_path_is_not_what_a_server_is_called() -> None:
    path, host = parse_endpoints(["unix:/run/etcd.sock", "[::1]:2379"], tls=False)
    assert (path.is_path, path.authority) == (True, "localhost")
    assert (host.is_path, host.authority) == (False, "[::1]:2379")


@pytest.mark.parametrize(
    ("text", "enabled", "tls"),
    [
        ("etcd:2379", False, False),
        ("etcd:2379", True, True),
        ("http://etcd:2379", True, False),
        ("https://etcd:2379", False, True),
        ("unix:/run/etcd.sock", True, False),
    ],
)
def test_the_scheme_decides_on_tls_before_the_setting(text: str, enabled: bool, tls: bool) -> None:
    assert parse_endpoints([text], tls=enabled)[0].tls is tls


def test_order_is_kept_and_repeats_vanish() -> None:
    found = parse_endpoints(["b:1", "a:1", "b:1"], tls=False)
    assert [endpoint.name for endpoint in found] == ["b:1", "a:1"]


@pytest.mark.parametrize(
    "text", ["", "etcd", "etcd:", ":2379", "etcd:port", "etcd:0", "etcd:65536", "ftp://etcd:2379", "::1:2379"]
)
def test_what_is_no_endpoint_is_named_with_its_setting(text: str) -> None:
    with pytest.raises(EndpointInvalid, match=r"etcd\.endpoints"):
        parse_endpoints([text], tls=False)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(EndpointInvalid, match="empty"):
        parse_endpoints([], tls=False)
