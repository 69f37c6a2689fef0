"""The authorities that the system trusts, for a client library that would trust others by itself.

pulsar-client takes those of the package certifi, where nobody puts the authority of his own company. Milvus'
client of Pulsar takes the system's, as Go's crypto/x509 finds them.

Source of truth: Go src/crypto/x509/{root_unix,root_linux}.go.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL
    "/etc/ssl/cert.pem",  # Alpine
)


def system_authorities(bundles: Sequence[str] = BUNDLES) -> str | None:
    """The PEM file that the environment names (SSL_CERT_FILE), OpenSSL's own, or a distribution's; None if
    there is none.
    """
    known = ssl.get_default_verify_paths().cafile
    return known or next((path for path in bundles if Path(path).is_file()), None)
