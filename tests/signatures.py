"""Signs as minisign does, for tests: real keys, real signatures."""

import base64
import hashlib
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer:
    """One secret key."""

    def __init__(self, private: Ed25519PrivateKey | None = None, key_id: bytes | None = None) -> None:
        self._private = private or Ed25519PrivateKey.generate()
        self.key_id = key_id or os.urandom(8)

    @property
    def public(self) -> str:
        """The public key, as a command line takes it."""
        return base64.b64encode(b"Ed" + self.key_id + self._private.public_key().public_bytes_raw()).decode()

    def sign(self, data: bytes, comment: str = "of a test") -> str:
        """The text of a signature file."""
        signature = self._private.sign(hashlib.blake2b(data).digest())
        over_all = self._private.sign(signature + comment.encode())
        first = base64.b64encode(b"ED" + self.key_id + signature).decode()
        return (
            f"untrusted comment: nobody vouches for this\n{first}\n"
            f"trusted comment: {comment}\n{base64.b64encode(over_all).decode()}\n"
        )
