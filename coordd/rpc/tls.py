"""Server certificates of the internal gRPC ports, read from PEM files.

Milvus 2.5 encrypts the traffic between its processes with `common.security.internaltlsEnabled`; its clients
check the certificate of the server, and nobody checks theirs unless mutual TLS is asked for.
"""

import ssl
from pathlib import Path

from coordd.errors import CoorddError


class CertificateError(CoorddError):
    """A certificate or key file cannot be used."""


def server_credentials(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS for a `GrpcServer`; with `client_ca` only clients with a certificate of that authority are let in.

    Reads the files at once, so call it before the loop has anything urgent to do.

    Raises:
        CertificateError: a file cannot be read, or is not what it should be; names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113 section 9.2
    context.set_alpn_protocols(["h2"])
    for path in (certificate, key):
        _check_readable(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(
            f"{certificate} and {key} are no certificate and its key: {error}",
            hint="both are PEM files, the key without a password",
        ) from error
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _check_readable(client_ca)
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise CertificateError(f"{client_ca} is no certificate of an authority: {error}") from error
    return context


def _check_readable(path: Path) -> None:
    """The ssl module does not say which file it could not read."""
    try:
        path.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error


def _no_password() -> str:
    """Asked for when the key is encrypted; without this OpenSSL would ask the terminal, and wait."""
    return ""
