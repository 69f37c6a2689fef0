from pathlib import Path

import pytest

from coordd.etcd.errors import TlsError
from coordd.etcd.settings import PlainSsl
from coordd.etcd.tls import TlsPolicy


@pytest.mark.parametrize(
    ("minimum", "probed"), [("1.0", False), ("1.1", False), ("1.2", False), ("1.3", True)]
)
def test_only_what_grpc_does_not_guarantee_is_probed(minimum: str, probed: bool) -> None:
    assert TlsPolicy.from_settings(PlainSsl(tls_min_version=minimum)).needs_probe is probed


@pytest.mark.parametrize("minimum", ["", "1.4", "TLS1.3"])
def test_a_version_that_does_not_exist_is_refused(minimum: str) -> None:
    with pytest.raises(TlsError, match=r"etcd\.ssl\.tlsMinVersion"):
        TlsPolicy.from_settings(PlainSsl(tls_min_version=minimum))


@pytest.mark.parametrize(
    ("field", "setting"),
    [("tls_cert", "etcd.ssl.tlsCert"), ("tls_key", "etcd.ssl.tlsKey"), ("tls_ca_cert", "etcd.ssl.tlsCACert")],
)
def test_a_file_that_cannot_be_read_is_named_with_its_setting(
    field: str, setting: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    policy = TlsPolicy.from_settings(PlainSsl(**{field: missing}))
    with pytest.raises(TlsError, match=setting) as caught:
        policy.credentials()
    assert str(missing) in str(caught.value)


def test_blank_paths_mean_none() -> None:
    policy = TlsPolicy.from_settings(PlainSsl(tls_cert="", tls_key=None, tls_ca_cert=""))
    assert (policy.cert, policy.key, policy.ca) == (None, None, None)
