"""What `etcd.ssl.*` lets through, by handshakes in memory; what is said of files that cannot be used."""

import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from coordd.etcd.errors import TlsError
from coordd.etcd.settings import PlainSsl
from coordd.etcd.tls import TlsPolicy
from tests.support.etcd_tls import TlsFiles, make_tls


def policy(**fields: object) -> TlsPolicy:
    return TlsPolicy.from_settings(PlainSsl(**{"tls_min_version": "1.2", **fields}))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


def handshake(
    client: ssl.SSLContext, tls: TlsFiles, *, versions: tuple[ssl.TLSVersion, ssl.TLSVersion], name: str
) -> ssl.SSLObject:
    """One between `client`, which expects `name`, and a server that wants certificates of clients.

    Raises:
        ssl.SSLError: of the side that sees the trouble first.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca)
    context.minimum_version, context.maximum_version = versions
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(tls.server_cert, tls.server_key)
    context.set_alpn_protocols(["h2"])
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = context.wrap_bio(up, down, server_side=True)
    waiting = [ours, theirs]
    while waiting:
        for side in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                waiting.remove(side)
    return ours


BOTH = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
ONLY_1_2 = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize("minimum", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize(("versions", "spoken"), [(BOTH, "TLSv1.3"), (ONLY_1_2, "TLSv1.2")])
def test_the_newest_version_that_both_speak(
    tls: TlsFiles, minimum: str, versions: tuple[ssl.TLSVersion, ssl.TLSVersion], spoken: str
) -> None:
    ours = policy(
        tls_ca_cert=tls.ca, tls_cert=tls.client_cert, tls_key=tls.client_key, tls_min_version=minimum
    )
    secure = handshake(ours.context(), tls, versions=versions, name="127.0.0.1")
    assert (secure.version(), secure.selected_alpn_protocol()) == (spoken, "h2")


def test_a_minimum_of_1_3_is_kept_to(tls: TlsFiles) -> None:
    ours = policy(tls_ca_cert=tls.ca, tls_cert=tls.client_cert, tls_key=tls.client_key, tls_min_version="1.3")
    assert handshake(ours.context(), tls, versions=BOTH, name="localhost").version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        handshake(ours.context(), tls, versions=ONLY_1_2, name="localhost")


@pytest.mark.parametrize("name", ["127.0.0.2", "etcd-0", "etcd"])
def test_the_certificate_must_name_the_host(tls: TlsFiles, name: str) -> None:
    """The last is its common name, which counts only where there are no other names."""
    ours = policy(tls_ca_cert=tls.ca, tls_cert=tls.client_cert, tls_key=tls.client_key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ours.context(), tls, versions=BOTH, name=name)


def test_an_authority_is_trusted_though_it_is_no_root(tmp_path: Path) -> None:
    tls = make_tls(tmp_path, below_a_root=True)
    ours = policy(tls_ca_cert=tls.ca, tls_cert=tls.client_cert, tls_key=tls.client_key)
    assert handshake(ours.context(), tls, versions=ONLY_1_2, name="localhost").version() == "TLSv1.2"


def test_a_stranger_is_not_trusted(tls: TlsFiles) -> None:
    ours = policy(tls_ca_cert=tls.other_ca, tls_cert=tls.client_cert, tls_key=tls.client_key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ours.context(), tls, versions=BOTH, name="localhost")


def test_without_a_ca_the_systems_are_asked(tls: TlsFiles) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(policy().context(), tls, versions=BOTH, name="localhost")


@pytest.mark.parametrize("minimum", ["", "1.4", "TLS1.3"])
def test_a_version_that_does_not_exist_is_refused(minimum: str) -> None:
    with pytest.raises(TlsError, match=r"etcd\.ssl\.tlsMinVersion"):
        policy(tls_min_version=minimum)


@pytest.mark.parametrize(
    ("field", "setting"),
    [("tls_cert", "etcd.ssl.tlsCert"), ("tls_key", "etcd.ssl.tlsKey"), ("tls_ca_cert", "etcd.ssl.tlsCACert")],
)
def test_a_file_that_cannot_be_read_is_named_with_its_setting(
    field: str, setting: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(TlsError, match=setting) as caught:
        policy(**{field: missing}).context()
    assert str(missing) in str(caught.value)


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(tls: TlsFiles, tmp_path: Path) -> None:
    plain = serialization.load_pem_private_key(tls.client_key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsError, match="passphrase"):
        policy(tls_cert=tls.client_cert, tls_key=locked).context()


def test_a_key_of_another_certificate_is_refused(tls: TlsFiles) -> None:
    with pytest.raises(TlsError, match="fitting the certificate"):
        policy(tls_cert=tls.client_cert, tls_key=tls.server_key).context()


def test_a_file_that_holds_no_certificates_is_refused(tls: TlsFiles) -> None:
    with pytest.raises(TlsError, match="PEM files"):
        policy(tls_ca_cert=tls.client_key).context()


def test_blank_paths_mean_none() -> None:
    blank = policy(tls_cert="", tls_key=None, tls_ca_cert="")
    assert (blank.cert, blank.key, blank.ca) == (None, None, None)
