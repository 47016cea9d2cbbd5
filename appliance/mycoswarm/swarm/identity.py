"""Who this node is: its key, its name, and the swarm it belongs to, if any. Roles are decided once and stored.

A key is made on its node and never leaves it. A fresh node is unclaimed and stays so until its owner founds a swarm on
it or confirms that it joins one; a node that belongs to a swarm refuses every other.
"""

import re
import socket
import threading
import unicodedata
from pathlib import Path
from typing import Literal, Self

import msgspec

from mycoswarm.base.errors import EnrolmentError, InputError, StorageError
from mycoswarm.swarm.certificate import is_issued_by, self_certificate
from mycoswarm.swarm.folder import Folder
from mycoswarm.swarm.key import SigningKey, fingerprint_of, node_id_of, public_of

Role = Literal["unclaimed", "coordinator", "worker"]

_KEY_FILE = "node.pem"
_NODE_FILE = "node.json"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one label of a host name, RFC 1123
_ID = re.compile(r"[0-9a-f]{32}")  # as key.py makes them; rules and requests name nodes by either


class Membership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The swarm that a node belongs to, and its place there."""

    swarm_id: str
    role: Literal["coordinator", "worker"]
    coordinator_id: str
    authority_pem: str
    certificate_pem: str


class _NodeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    membership: Membership | None = None


class Identity:
    """This node. The one owner of its key and of the file that says where it belongs.

    `folder` holds its small files; `enrolling` is held while it takes up a swarm, which may be tried twice at once.
    """

    def __init__(self, folder: Folder, key: SigningKey, node: _NodeFile) -> None:
        self._node = node
        self.folder = folder
        self.enrolling = threading.Lock()
        self.key = key
        self.fingerprint = key.fingerprint
        self.node_id = node_id_of(key.fingerprint)
        self.self_signed_pem = self_certificate(key)

    @classmethod
    def load_or_create(cls, folder: Path, *, name: str | None = None) -> Self:
        """Read this node's identity, or make it: `name` (or the machine's own) counts on the first start only.

        Raises:
            StorageError: a file cannot be read, is damaged, or cannot be written.
            SetupError: the key file may be read by others.
        """
        files = Folder(folder)
        pem = files.read(_KEY_FILE, secret=True)
        if pem is None:
            if files.read(_NODE_FILE) is not None:
                raise StorageError(
                    f"the key of this node, {folder / _KEY_FILE}, is gone",
                    hint=f"Restore it from a backup; or remove {folder / _NODE_FILE} and enrol this node anew.",
                )
            pem = SigningKey.generate().pem
            files.write(_KEY_FILE, pem)
        key = SigningKey.from_pem(pem)
        stored = files.read(_NODE_FILE)
        if stored is None:
            node = _NodeFile(name=clean_name(name or socket.gethostname()))
            files.write(_NODE_FILE, msgspec.json.encode(node))
        else:
            node = _read_node(stored, folder / _NODE_FILE)
        return cls(files, key, node)

    @property
    def name(self) -> str:
        """What people call this node."""
        return self._node.name

    @property
    def membership(self) -> Membership | None:
        """The swarm this node belongs to; None while unclaimed."""
        return self._node.membership

    @property
    def role(self) -> Role:
        """This node's role, as stored."""
        return self._node.membership.role if self._node.membership else "unclaimed"

    def enrol(self, membership: Membership, *, name: str | None = None) -> None:
        """Store the swarm this node now belongs to, under the name it goes by there.

        Raises:
            EnrolmentError: this node belongs to a swarm already, or the certificate is not its own or not that swarm's.
            StorageError: it cannot be written; the node is as before.
        """
        self.check(membership)
        self._store(_NodeFile(name=clean_name(name or self.name), membership=membership))

    def check(self, membership: Membership) -> None:
        """Hold that this node could take up this membership.

        Raises:
            EnrolmentError: this node belongs to a swarm already, or the certificate is not its own or not that swarm's.
        """
        if self._node.membership is not None:
            raise already_enrolled(self._node.membership.swarm_id)
        if fingerprint_of(public_of(membership.authority_pem)) != membership.swarm_id:
            raise EnrolmentError("the swarm's authority is not the one that was named")
        if public_of(membership.certificate_pem) != self.key.public_der:
            raise EnrolmentError("the certificate is for another node's key")
        if not is_issued_by(membership.certificate_pem, membership.authority_pem):
            raise EnrolmentError("the certificate was not issued by the swarm's authority")

    def leave(self) -> None:
        """Belong to no swarm any more. The key stays.

        Raises:
            StorageError: it cannot be written.
        """
        self._store(_NodeFile(name=self.name))

    def rename(self, name: str) -> None:
        """Go by another name.

        Raises:
            InputError: not a name.
            StorageError: it cannot be written.
        """
        check_name(name)
        self._store(_NodeFile(name=name, membership=self._node.membership))

    def _store(self, node: _NodeFile) -> None:
        self.folder.write(_NODE_FILE, msgspec.json.encode(node))
        self._node = node


def already_enrolled(swarm_id: str) -> EnrolmentError:
    """Build the error of a node that has a swarm and is offered another."""
    return EnrolmentError(
        f"this node belongs to the swarm {swarm_id[:16]} already",
        hint="To move it, first take it out of its swarm with `mycoswarm-node leave` on this machine.",
        code="already_enrolled",
    )


def is_name(text: str) -> bool:
    """Say whether this can be a node's name: one host name label, and none that could be taken for a node's id."""
    return _NAME.fullmatch(text) is not None and _ID.fullmatch(text) is None


def check_name(text: str) -> str:
    """Give the name back.

    Raises:
        InputError: not a name.
    """
    if not is_name(text):
        raise InputError(f"{text!r} cannot be a node's name", hint="Take small letters, digits and inner hyphens.")
    return text


def clean_name(text: str) -> str:
    """Make a node's name out of any text, such as a machine's own name."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().split(".")[0]
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].strip("-") or "node"
    return f"node-{name}" if _ID.fullmatch(name) else name


def _read_node(data: bytes, path: Path) -> _NodeFile:
    try:
        return msgspec.json.decode(data, type=_NodeFile)
    except msgspec.MsgspecError as exc:
        raise StorageError(f"{path} is damaged: {exc}", hint="Restore it from a backup, or enrol anew.") from exc
