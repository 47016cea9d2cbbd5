"""The swarm's authority: the one key that makes a swarm. It lives on the coordinator and nowhere else.

It issues node certificates and signs rosters, tickets and enrolments. Rosters and enrolments are signed with a tag of
their own in front, which no ticket (a JSON object) can start with: no signature passes for one of another kind.
Covered: the key file's permissions, its atomic making. Not covered: a stolen coordinator disk, which is a stolen swarm.
"""

from pathlib import Path
from typing import Self

from mycoswarm.base.errors import NotFoundError
from mycoswarm.swarm.certificate import authority_certificate, node_certificate
from mycoswarm.swarm.folder import Folder
from mycoswarm.swarm.key import SigningKey, is_signed

_KEY_FILE = "authority.pem"
_CERTIFICATE_FILE = "authority-certificate.pem"


class Authority:
    """Holds the authority's key. `swarm_id` is that key's fingerprint; `certificate_pem` is what nodes trust."""

    def __init__(self, key: SigningKey, certificate_pem: str) -> None:
        self._key = key
        self.swarm_id = key.fingerprint
        self.certificate_pem = certificate_pem

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make the swarm's key, or take up one that an interrupted `create` left.

        Raises:
            StorageError: the key cannot be written or read.
            SetupError: the key file may be read by others.
        """
        files = Folder(folder)
        if files.read(_KEY_FILE, secret=True) is None:
            files.write(_KEY_FILE, SigningKey.generate().pem)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the swarm's key.

        Raises:
            NotFoundError: this node holds no swarm's key.
            StorageError: the key cannot be read.
            SetupError: the key file may be read by others.
        """
        files = Folder(folder)
        pem = files.read(_KEY_FILE, secret=True)
        if pem is None:
            raise NotFoundError(
                "this node is no coordinator: it holds no swarm's key",
                hint="Run this on the coordinator, or found a swarm here with `mycoswarm-node init`.",
            )
        key = SigningKey.from_pem(pem)
        certificate = files.read(_CERTIFICATE_FILE)
        if certificate is None:
            certificate = authority_certificate(key).encode()
            files.write(_CERTIFICATE_FILE, certificate)
        return cls(key, certificate.decode("ascii", "replace"))

    def issue(self, public_der: bytes) -> str:
        """Issue the certificate (PEM) of the node that holds this public key.

        Raises:
            TrustError: not a key that nodes use.
        """
        return node_certificate(public_der, self._key)

    def sign(self, body: bytes) -> bytes:
        """Sign `body` (ECDSA P-256, SHA-256) as the swarm."""
        return self._key.sign(body)


def verify(certificate_or_public_pem: str | bytes, body: bytes, signature: bytes) -> bool:
    """Say whether `signature` over `body` is by the holder of this certificate or public key."""
    return is_signed(certificate_or_public_pem, body, signature)
