"""TLS towards etcd: credentials for gRPC, the check of the minimum version, and reasons when it fails.

gRPC's C core speaks TLS 1.2 and 1.3 and nothing older, so a minimum of 1.0, 1.1 or 1.2 holds by itself. Its
Python binding (up to grpcio 1.85) has no way to ask for 1.3 only (grpc issue 37305). So with
`etcd.ssl.tlsMinVersion: 1.3` every connection is preceded by a handshake of Python's own `ssl` that accepts
nothing below 1.3, with the same authorities and the same client certificate; an endpoint that fails it is
not used (`TlsVersionTooLow`).
An endpoint that passes speaks 1.3, and then TLS' own downgrade protection (RFC 8446 4.1.3) makes gRPC's
handshake end in 1.3 too, even with an attacker in between. What this cannot exclude: a *different* server
answering at the same address a moment later that only knows 1.2, yet has a certificate we trust.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import TlsError, TlsVersionTooLow, Unavailable
from coordd.etcd.settings import SslSettings

_VERSIONS = {
    # Below 1.2 is refused by gRPC whatever we say, so the probe does not go there either.
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

    @property
    def needs_probe(self) -> bool:
        """True when gRPC alone would accept less than `minimum`."""
        return _VERSIONS[self.minimum] > ssl.TLSVersion.TLSv1_2

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises TlsError naming the setting whose file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca, "etcd.ssl.tlsCACert") or _system_roots(),
            private_key=_read(self.key, "etcd.ssl.tlsKey"),
            certificate_chain=_read(self.cert, "etcd.ssl.tlsCert"),
        )

    def context(self) -> ssl.SSLContext:
        """The same policy for Python's `ssl`. Raises TlsError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = _VERSIONS[self.minimum]
            context.set_alpn_protocols(["h2"])
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(
                f"the files of etcd.ssl.tlsCACert, tlsCert, tlsKey cannot be used: {error}",
                hint="they must be PEM files, the key without a passphrase and fitting the certificate",
            ) from error
        return context


async def probe(endpoint: Endpoint, policy: TlsPolicy, timeout_s: float) -> None:
    """One handshake under `policy`; returns if it succeeds.

    A server that wants a client certificate says so only after the handshake (TLS 1.3), so its word is
    waited for briefly.

    Raises:
        TlsError, TlsVersionTooLow: the two sides do not agree.
        Unavailable: the endpoint does not accept the connection, ends it or does not answer; that is how a
            server without TLS looks, but also one that is being restarted.
    """
    context = policy.context()
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=context, server_hostname=endpoint.host
            )
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(0.1, timeout_s / 2)):
                        if not await reader.read(1):
                            raise Unavailable(
                                "it ended the connection right after the TLS handshake; does it want a client"
                                " certificate (etcd.ssl.tlsCert)?"
                            )
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        raise TlsError(
            f"etcd endpoint {endpoint.name}: its certificate is not accepted: {error.verify_message}",
            hint="check etcd.ssl.tlsCACert, and that the certificate names the host in etcd.endpoints",
        ) from error
    except ssl.SSLError as error:
        raise _translate(endpoint, policy, error) from error
    except TimeoutError as error:
        raise Unavailable(f"no TLS handshake within {timeout_s:.1f} s") from error
    except (ConnectionResetError, ConnectionAbortedError) as error:
        raise Unavailable(
            "it ended the connection during the TLS handshake; does it serve TLS (etcd.ssl.enabled)?"
        ) from error
    except OSError as error:
        raise Unavailable(error.strerror or str(error)) from error


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


def _system_roots() -> bytes | None:
    """The system's authorities in one PEM file; None (gRPC then takes its own list) if there is none."""
    own: str | None = ssl.get_default_verify_paths().cafile
    for path in (own, *_BUNDLES):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return None


def _path(value: object) -> Path | None:
    text = "" if value is None else str(value)
    return Path(text) if text else None


def _read(path: Path | None, setting: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{setting}: {path} cannot be read: {error.strerror}") from error
