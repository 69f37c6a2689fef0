"""TLS towards etcd: `etcd.ssl.*` as a context of Python's `ssl`, and reasons when a handshake fails.

The certificate of etcd must name the host in `etcd.endpoints` and lead to one in `etcd.ssl.tlsCACert`, which
is trusted whether or not it is a root, as by Go's crypto/x509; without that setting, to one of the system's.
TLS 1.2 and 1.3 are spoken: a minimum of 1.0 or 1.1 is 1.2 here.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import EtcdError, TlsError, TlsVersionTooLow, Unavailable
from coordd.etcd.settings import SslSettings
from coordd.http2.client import Http2NotOffered

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1_2,
    "1.1": ssl.TLSVersion.TLSv1_2,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
# OpenSSL's names for "the other side does not speak a version that I accept".
_VERSION_REASONS = {
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "NO_PROTOCOLS_AVAILABLE",
    "WRONG_SSL_VERSION",
    "VERSION_TOO_LOW",
}
# Where Debian and Red Hat keep them; Go's crypto/x509 looks there, too.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_SPEAKS = "etcd speaks TLS 1.3 since 3.4.25 and 3.5.8: upgrade it, or set etcd.ssl.tlsMinVersion to 1.2"


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """`etcd.ssl.*`, read. Files are read anew for every connection, so that renewed ones are picked up."""

    ca: Path | None
    cert: Path | None
    key: Path | None
    minimum: str

    @classmethod
    def from_settings(cls, settings: SslSettings) -> "TlsPolicy":
        """Raises TlsError for a minimum version that does not exist."""
        if settings.tls_min_version not in _VERSIONS:
            raise TlsError(
                f"etcd.ssl.tlsMinVersion is {settings.tls_min_version!r}", hint="use 1.0, 1.1, 1.2 or 1.3"
            )
        return cls(
            ca=_path(settings.tls_ca_cert),
            cert=_path(settings.tls_cert),
            key=_path(settings.tls_key),
            minimum=settings.tls_min_version,
        )

    def context(self) -> ssl.SSLContext:
        """What one connection is made with.

        Raises:
            TlsError: a file cannot be read (names its setting), or is not what it should be.
        """
        _check_readable(self.ca, "etcd.ssl.tlsCACert")
        _check_readable(self.cert, "etcd.ssl.tlsCert")
        _check_readable(self.key, "etcd.ssl.tlsKey")
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.ca is None:
                _add_system_roots(context)
            if self.cert is not None:
                # With a password, if only an empty one, OpenSSL does not ask for one at the terminal.
                context.load_cert_chain(self.cert, self.key, password="")
        except (OSError, ssl.SSLError) as error:
            raise TlsError(
                f"the files of etcd.ssl.tlsCACert, tlsCert, tlsKey cannot be used: {error}",
                hint="they must be PEM files, the key without a passphrase and fitting the certificate",
            ) from error
        context.minimum_version = _VERSIONS[self.minimum]
        context.set_alpn_protocols(["h2"])
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # Default since Python 3.13. Many a home-made authority fails it, and Go does not ask for it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def why_tls_failed(endpoint: Endpoint, policy: TlsPolicy, error: OSError) -> EtcdError | None:
    """What the failure of a connection over TLS means; None if TLS has no part in it.

    TlsError, TlsVersionTooLow: the two sides do not agree. Unavailable: the endpoint ends the connection;
    that is how a server without TLS looks, but also one that is being restarted. Or it agrees to no HTTP/2.
    """
    if isinstance(error, Http2NotOffered):
        return Unavailable(
            f"{error}; is it etcd itself, or a proxy in front of it that speaks HTTP/1.1 only?"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(
            f"etcd endpoint {endpoint.name}: its certificate is not accepted: {error.verify_message}",
            hint="check etcd.ssl.tlsCACert, and that the certificate names the host in etcd.endpoints",
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _translate(endpoint, policy, error)
    if isinstance(error, (ssl.SSLError, ConnectionError)) and not isinstance(error, ConnectionRefusedError):
        return Unavailable(
            "it ended the connection during the TLS handshake or right after it; does it serve TLS"
            " (etcd.ssl.enabled), or want a client certificate (etcd.ssl.tlsCert)?"
        )
    return None


def _translate(endpoint: Endpoint, policy: TlsPolicy, error: ssl.SSLError) -> TlsError:
    reason = error.reason or str(error)
    if reason in _VERSION_REASONS:
        return TlsVersionTooLow(
            f"etcd endpoint {endpoint.name} does not speak TLS {policy.minimum}",
            hint=_SPEAKS,
        )
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return TlsError(
            f"etcd endpoint {endpoint.name} does not accept our certificate: {reason}",
            hint="check etcd.ssl.tlsCert and etcd.ssl.tlsKey; etcd may require a client certificate",
        )
    return TlsError(
        f"etcd endpoint {endpoint.name}: TLS failed: {reason}",
        hint="check that etcd serves TLS there, or set etcd.ssl.enabled to false",
    )


def _add_system_roots(context: ssl.SSLContext) -> None:
    """OpenSSL may have been built to look for them where this system does not keep them."""
    own = ssl.get_default_verify_paths()
    if not (own.cafile or own.capath):
        bundle = next((path for path in _BUNDLES if Path(path).is_file()), None)
        if bundle is not None:
            context.load_verify_locations(bundle)


def _path(value: object) -> Path | None:
    text = "" if value is None else str(value)
    return Path(text) if text else None


def _check_readable(path: Path | None, setting: str) -> None:
    if path is None:
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsError(f"{setting}: {path} cannot be read: {error.strerror}") from error
