"""Who this node is, stored whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from household import make_node, make_swarm, take_in
from mycoswarm.base.errors import EnrolmentError, InputError, SetupError, StorageError
from mycoswarm.swarm.enrolment import open_grant, take_up
from mycoswarm.swarm.identity import Identity, clean_name, is_name
from mycoswarm.swarm.registrar import Registrar


def test_a_node_is_the_same_after_a_restart_and_its_id_is_its_keys(tmp_path: Path) -> None:
    first = make_node(tmp_path, "box")
    again = Identity.load_or_create(tmp_path / "box", name="other")
    assert (again.node_id, again.name, again.role) == (first.node_id, "box", "unclaimed")
    assert len(first.node_id) == 32 and first.fingerprint.startswith(first.node_id)
    assert make_node(tmp_path, "other").node_id != first.node_id


def test_the_key_file_is_its_owners_only_and_anything_else_is_an_error(tmp_path: Path) -> None:
    make_node(tmp_path, "box")
    key = tmp_path / "box" / "node.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(SetupError, match=r"node\.pem") as caught:
        Identity.load_or_create(tmp_path / "box")
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "content"), [("node.pem", b"nonsense"), ("node.json", b'{"name":'), ("node.json", b"{}")]
)
def test_a_damaged_file_is_a_storage_error(tmp_path: Path, file: str, content: bytes) -> None:
    make_node(tmp_path, "box")
    (tmp_path / "box" / file).write_bytes(content)
    with pytest.raises(StorageError):
        Identity.load_or_create(tmp_path / "box")


def test_a_lost_key_is_told_and_not_silently_replaced(tmp_path: Path) -> None:
    make_node(tmp_path, "box")
    (tmp_path / "box" / "node.pem").unlink()
    with pytest.raises(StorageError, match="gone"):
        Identity.load_or_create(tmp_path / "box")


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    registrar, _ = make_swarm(tmp_path)
    take_in(registrar, make_node(tmp_path, "box"))
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"node.pem", "node.json", "roster.json", "authority.pem", "authority-certificate.pem"}


def test_founding_a_swarm_makes_a_coordinator_once(tmp_path: Path) -> None:
    registrar, pi = make_swarm(tmp_path)
    assert pi.role == "coordinator" and pi.membership is not None
    assert pi.membership.swarm_id == registrar.authority.swarm_id
    with pytest.raises(EnrolmentError):
        Registrar.found(tmp_path / "pi", pi)
    again = Registrar.load(tmp_path / "pi", Identity.load_or_create(tmp_path / "pi"))
    assert again.roster == registrar.roster
    assert again.authority.certificate_pem == registrar.authority.certificate_pem


@pytest.mark.slow
def test_a_worker_refuses_every_other_swarm_until_it_leaves(tmp_path: Path) -> None:
    registrar, _ = make_swarm(tmp_path)
    other, _ = make_swarm(tmp_path, "other")
    box = make_node(tmp_path, "box")
    take_in(registrar, box)
    with pytest.raises(EnrolmentError, match="already"):
        take_in(other, box)
    box.leave()
    take_in(other, box)
    assert box.membership is not None and box.membership.swarm_id == other.authority.swarm_id


def test_a_grant_for_another_node_swarm_or_coordinator_is_refused(tmp_path: Path) -> None:
    registrar, pi = make_swarm(tmp_path)
    other, rogue = make_swarm(tmp_path, "rogue")
    box, second = make_node(tmp_path, "box"), make_node(tmp_path, "second")
    swarm_id = registrar.authority.swarm_id
    grant = registrar.admit(box.key.public_der, "box", ())
    theirs = other.admit(box.key.public_der, "box", ())
    for identity, what, public in (
        (second, grant, pi.key.public_der),
        (box, theirs, pi.key.public_der),
        (box, grant, rogue.key.public_der),
    ):
        with pytest.raises(EnrolmentError):
            open_grant(what, identity=identity, swarm_id=swarm_id, coordinator_public=public)
    mixed = type(grant)(authority_pem=grant.authority_pem, certificate_pem=theirs.certificate_pem, roster=grant.roster)
    opened = open_grant(mixed, identity=box, swarm_id=swarm_id, coordinator_public=pi.key.public_der)
    with pytest.raises(EnrolmentError, match="not issued"):
        take_up(box, opened)
    assert box.role == "unclaimed"


@given(st.text(max_size=200))
def test_any_text_makes_a_name(text: str) -> None:
    assert is_name(clean_name(text))


def test_a_node_takes_only_names(tmp_path: Path) -> None:
    box = make_node(tmp_path, "box")
    with pytest.raises(InputError):
        box.rename("Not A Name")
    box.rename("attic")
    assert Identity.load_or_create(tmp_path / "box").name == "attic"
