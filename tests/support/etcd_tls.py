"""Certificates for TLS tests, made on the spot."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one test authority. `other_ca` has signed nothing."""

    ca: Path
    other_ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    verify_clients: bool = False


def make_tls(
    folder: Path, *, verify_clients: bool = False, server_ip: str = "127.0.0.1", below_a_root: bool = False
) -> TlsFiles:
    """An authority, a server certificate for `server_ip` (and localhost) and a client certificate.

    `below_a_root`: the authority is not a root itself, and `ca` does not hold the root.
    """
    root = _Authority("coordd test root") if below_a_root else None
    authority = _Authority("coordd test authority", root)
    server = authority.issue("etcd", server_ip)
    client = authority.issue("coordd", None)
    return TlsFiles(
        ca=_write(folder / "ca.pem", authority.pem()),
        other_ca=_write(folder / "other-ca.pem", _Authority("somebody else").pem()),
        server_cert=_write(folder / "server.pem", server[0]),
        server_key=_write(folder / "server-key.pem", server[1]),
        client_cert=_write(folder / "client.pem", client[0]),
        client_key=_write(folder / "client-key.pem", client[1]),
        verify_clients=verify_clients,
    )


class _Authority:
    def __init__(self, name: str, above: "_Authority | None" = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        issuer = self if above is None else above
        self._cert = (
            _builder(self._name, issuer._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(issuer._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        return self._cert.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, ip: str | None) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(_name(name), self._name, key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if ip is not None:
            names = [x509.IPAddress(ipaddress.ip_address(ip)), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), private


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
