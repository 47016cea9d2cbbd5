"""Keys: ECDSA on P-256 with SHA-256, their fingerprints, their signatures, and the one-time keys of join tokens."""

import hashlib
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from mycoswarm.base.errors import StorageError, TrustError

_PUBLIC = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class SigningKey:
    """A private key that signs. It knows its public half; its secret half leaves only as `pem`, for its own file."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        self.public_der = private.public_key().public_bytes(*_PUBLIC)
        self.fingerprint = fingerprint_of(self.public_der)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key here."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a key file.

        Raises:
            StorageError: not a P-256 private key.
        """
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise StorageError(
                f"a key file is damaged: {exc}", hint="Restore it from a backup, or enrol this node anew."
            ) from exc
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise StorageError("a key file holds another kind of key", hint="Restore it from a backup.")
        return cls(private)

    @property
    def pem(self) -> bytes:
        """The secret key as its file holds it."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, body: bytes) -> bytes:
        """Sign `body`: ECDSA over its SHA-256, DER form."""
        return self.private.sign(body, ec.ECDSA(hashes.SHA256()))


def fingerprint_of(public_der: bytes) -> str:
    """Give a key's fingerprint: SHA-256 of its SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(public_der).hexdigest()


def node_id_of(fingerprint: str) -> str:
    """Give the node id of a key's fingerprint: its first 128 bits."""
    return fingerprint[:32]


def public_of(source: bytes | str) -> bytes:
    """Give the SubjectPublicKeyInfo (DER) of a certificate or public key, PEM or DER.

    Raises:
        TrustError: neither, or not a P-256 key.
    """
    data = source.encode("ascii", "replace") if isinstance(source, str) else source
    try:
        public = _loaded(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise TrustError("the other side's key or certificate cannot be read") from exc
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise TrustError("the other side's key is not of the kind that nodes use (ECDSA P-256)")
    return public.public_bytes(*_PUBLIC)


def is_signed(public: bytes | str, body: bytes, signature: bytes) -> bool:
    """Say whether `signature` over `body` is by this public key or certificate (PEM or DER)."""
    try:
        key = serialization.load_der_public_key(public_of(public))
        assert isinstance(key, ec.EllipticCurvePublicKey)  # public_of lets nothing else through
        key.verify(signature, body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, TrustError):
        return False
    return True


def secret_public(secret: bytes) -> bytes:
    """Give what may be stored of a one-time secret: the public half of the key grown from it."""
    return _grown(secret).public_key().public_bytes_raw()


def secret_proof(secret: bytes, body: bytes) -> bytes:
    """Prove knowledge of a one-time secret for `body`, without showing it."""
    return _grown(secret).sign(body)


def is_proven(public: bytes, body: bytes, proof: bytes) -> bool:
    """Say whether `proof` was made over `body` with the secret behind `public`."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(proof, body)
    except (InvalidSignature, ValueError):
        return False
    return True


def _loaded(data: bytes) -> object:
    if b"-----BEGIN CERTIFICATE" in data:
        return x509.load_pem_x509_certificate(data).public_key()
    if b"-----BEGIN" in data:
        return serialization.load_pem_public_key(data)
    try:
        return serialization.load_der_public_key(data)
    except ValueError:
        return x509.load_der_x509_certificate(data).public_key()


def _grown(secret: bytes) -> ed25519.Ed25519PrivateKey:
    """The secret has 128 random bits, so one hash suffices to grow a key from it."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"mycoswarm token key 1\n" + secret).digest())
