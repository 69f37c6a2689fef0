"""Server certificates of the internal gRPC ports, read from PEM files.

Milvus 2.5 encrypts the traffic between its processes with `common.security.internaltlsEnabled`; its clients
check the certificate of the server, and nobody checks theirs unless mutual TLS is asked for.
"""

from pathlib import Path

import grpc

from coordd.errors import CoorddError


class CertificateError(CoorddError):
    """A certificate or key file cannot be used."""


def server_credentials(certificate: Path, key: Path, client_ca: Path | None = None) -> grpc.ServerCredentials:
    """TLS for a `GrpcServer`; with `client_ca` only clients with a certificate of that authority are let in.

    Reads the files at once, so call it before the loop has anything urgent to do.

    Raises:
        CertificateError: a file cannot be read; names it.
    """
    authority = None if client_ca is None else _read(client_ca)
    return grpc.ssl_server_credentials(
        [(_read(key), _read(certificate))], authority, require_client_auth=authority is not None
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error
