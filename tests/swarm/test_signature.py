"""Signatures of release files: those that hold, and all that do not."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import TrustError
from mycoswarm.swarm.signature import read_public_key, read_signature
from signatures import Signer

DATA = b"a program" * 1000
DIGEST = hashlib.blake2b(DATA).digest()


def check(signer: Signer, text: str, digest: bytes = DIGEST) -> str:
    return read_signature(text).check(read_public_key(signer.public), digest)


def test_a_signature_that_holds_gives_its_trusted_comment() -> None:
    signer = Signer()
    assert check(signer, signer.sign(DATA, "version 2")) == "version 2"


def test_a_public_key_may_be_its_file_or_its_line() -> None:
    signer = Signer()
    assert read_public_key(f"untrusted comment: of a test\n{signer.public}\n") == read_public_key(signer.public)


def test_another_file_is_refused() -> None:
    signer = Signer()
    with pytest.raises(TrustError, match="altered"):
        check(signer, signer.sign(DATA), hashlib.blake2b(DATA + b"!").digest())


def test_another_key_is_refused_also_under_the_same_key_id() -> None:
    signer, other = Signer(), Signer()
    with pytest.raises(TrustError, match="is trusted"):
        check(other, signer.sign(DATA))
    with pytest.raises(TrustError, match="altered"):
        check(Signer(Ed25519PrivateKey.generate(), signer.key_id), signer.sign(DATA))


def test_an_altered_trusted_comment_is_refused() -> None:
    signer = Signer()
    with pytest.raises(TrustError, match="altered"):
        check(signer, signer.sign(DATA, "version 2").replace("version 2", "version 3"))


def test_the_older_kind_is_refused_by_name() -> None:
    signer = Signer()
    lines = signer.sign(DATA).split("\n")
    lines[1] = base64.b64encode(b"Ed" + base64.b64decode(lines[1])[2:]).decode()
    with pytest.raises(TrustError, match="older kind"):
        read_signature("\n".join(lines))


@pytest.mark.parametrize("line", range(4))
def test_each_of_the_four_lines_is_needed(line: int) -> None:
    lines = Signer().sign(DATA).splitlines()
    with pytest.raises(TrustError):
        read_signature("\n".join(lines[:line] + lines[line + 1 :]))


@given(st.text(max_size=400))
def test_whatever_stands_there_is_read_or_distrusted(text: str) -> None:
    for read in (read_signature, read_public_key):
        with pytest.raises(TrustError):
            read(text)


@given(st.integers(0, 73), st.integers(1, 255))
def test_a_signature_with_any_byte_changed_never_holds(place: int, change: int) -> None:
    signer = Signer()
    lines = signer.sign(DATA).split("\n")
    raw = bytearray(base64.b64decode(lines[1]))
    raw[place] ^= change
    lines[1] = base64.b64encode(raw).decode()
    with pytest.raises(TrustError):
        check(signer, "\n".join(lines))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed (apt install minisign)")
def test_what_minisign_signs_holds(tmp_path: Path) -> None:
    file, public, secret = tmp_path / "file", tmp_path / "public", tmp_path / "secret"
    file.write_bytes(DATA)
    subprocess.run(["minisign", "-G", "-W", "-p", public, "-s", secret], check=True, capture_output=True, timeout=60)
    words = ["minisign", "-S", "-s", secret, "-m", file, "-t", "version 7"]
    subprocess.run(words, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    signature = read_signature((tmp_path / "file.minisig").read_text())
    assert signature.check(read_public_key(public.read_text()), DIGEST) == "version 7"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed (apt install minisign)")
def test_what_the_tests_sign_holds_for_minisign(tmp_path: Path) -> None:
    signer = Signer()
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "file.minisig").write_text(signer.sign(DATA, "version 7"))
    subprocess.run(
        ["minisign", "-V", "-P", signer.public, "-m", tmp_path / "file"], check=True, capture_output=True, timeout=60
    )
