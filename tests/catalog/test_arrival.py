"""Model files on their way: kept over tries, checked, and never mixed."""

import hashlib
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from mycoswarm.base.errors import BusyError, ModelFileError, StorageError
from mycoswarm.catalog import arrival
from mycoswarm.catalog.arrival import Slip, discard, unfinished

DATA = b"GGUF" + bytes(range(256)) * 50
SHA256 = hashlib.sha256(DATA).hexdigest()
SOURCE = "hf:o/r/tiny.gguf"
Intake = partial(arrival.Intake, sync_bytes=1000, chunk_bytes=512)  # small steps


def slip(sha256: str | None = SHA256, source: str = SOURCE, total: int = len(DATA)) -> Slip:
    return Slip(source=source, total_bytes=total, sha256=sha256, validator='"v1"')


def begun(folder: Path, sha256: str | None, count: int, *, leave: bool = True) -> arrival.Intake:
    """A file of which so many bytes have come; left in order, or as a process that is killed leaves it."""
    one = Intake(folder, "tiny")
    one.open(SOURCE)
    one.begin(slip(sha256), 0)
    for at in range(0, count, 100):
        one.write(DATA[at : min(at + 100, count)])
    if leave:
        one.close()
    return one


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_comes_in_two_tries_and_is_what_was_promised(tmp_path: Path, sha256: str | None) -> None:
    begun(tmp_path, sha256, 2500)
    assert unfinished(tmp_path) == [("tiny", replace(slip(sha256), safe_bytes=2500), 2500)]
    with Intake(tmp_path, "tiny") as again:
        again.open(SOURCE)
        assert again.count == 2500 and not again.is_whole
        again.begin(slip(sha256), 2500)
        again.write(DATA[2500:])
        again.finish()
        assert again.is_whole and again.digest == SHA256 and again.path.read_bytes() == DATA
        again.discard()
    assert not list(tmp_path.iterdir())


def _killed(folder: Path, sha256: str | None) -> None:
    one = begun(folder, sha256, 2500, leave=False)
    assert one._file is not None
    one._file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("sha256", "kept"), [(SHA256, 2500), (None, 2000)])
def test_after_a_kill_it_goes_on_with_what_is_sure(tmp_path: Path, sha256: str | None, kept: int) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path, sha256))
    worker.start()
    worker.join(10)
    assert worker.exitcode == -signal.SIGKILL
    with Intake(tmp_path, "tiny") as again:
        again.open(SOURCE)
        assert again.count == kept, "without a hash only what was synced counts"
        again.begin(slip(sha256), kept)
        again.write(DATA[kept:])
        again.finish()


def test_what_came_from_another_source_or_is_begun_anew_is_dropped(tmp_path: Path) -> None:
    begun(tmp_path, SHA256, 2500)
    with Intake(tmp_path, "tiny") as again:
        again.open(SOURCE)
        again.begin(slip(), 0)
        again.write(DATA)
        again.finish()
    begun(tmp_path, SHA256, 2500)
    with Intake(tmp_path, "tiny") as other:
        other.open("https://other.example/tiny.gguf")
        assert other.count == 0 and other.slip is None
    assert not list(tmp_path.iterdir()), "nothing came, nothing stays"


def test_a_wrong_hash_is_found_also_where_the_first_try_knew_it_and_the_second_did_not(tmp_path: Path) -> None:
    begun(tmp_path, SHA256, 2500)
    with Intake(tmp_path, "tiny") as again:
        again.open(SOURCE)
        again.begin(slip(None), 2500)
        again.write(DATA[2500:-1] + b"x")
        with pytest.raises(ModelFileError) as caught:
            again.finish()
        assert caught.value.code == "wrong_hash"


def test_a_file_that_ends_early_or_never_is_no_file(tmp_path: Path) -> None:
    with Intake(tmp_path, "tiny") as one:
        one.open(SOURCE)
        one.begin(slip(None), 0)
        one.write(DATA[:-1])
        with pytest.raises(ModelFileError):
            one.finish()
        with pytest.raises(ModelFileError, match="more than"):
            one.write(b"xy")


@pytest.mark.parametrize("data", [b"<!doctype html>", b"GGU", b"PK\3\4"])
def test_what_is_no_gguf_is_refused_at_its_first_bytes(tmp_path: Path, data: bytes) -> None:
    with Intake(tmp_path, "tiny") as one:
        one.open(SOURCE)
        one.begin(slip(None), 0)
        with pytest.raises(ModelFileError, match="no GGUF"):
            one.write(data)


def test_a_file_that_the_disk_cannot_hold_is_not_begun(tmp_path: Path) -> None:
    with Intake(tmp_path, "tiny") as one:
        one.open(SOURCE)
        with pytest.raises(StorageError) as caught:
            one.begin(slip(total=1 << 50), 0)
        assert caught.value.code == "disk_full"


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    one = begun(tmp_path, SHA256, 2500, leave=False)
    with Intake(tmp_path, "tiny") as other, pytest.raises(BusyError):
        other.open(SOURCE)
    with pytest.raises(BusyError):
        discard(tmp_path, "tiny")
    one.write(DATA[2500:])
    one.finish()
    one.close()


def test_who_stops_the_reading_of_what_there_is_loses_nothing(tmp_path: Path) -> None:
    begun(tmp_path, None, 2500)
    with Intake(tmp_path, "tiny") as stopped:
        stopped.stop()
        stopped.open(SOURCE)
    with Intake(tmp_path, "tiny") as again:
        again.open(SOURCE)
        assert again.count == 2500


def test_what_has_come_is_dropped_by_its_name_and_by_no_path(tmp_path: Path) -> None:
    begun(tmp_path / "incoming", SHA256, 2500)
    (tmp_path / "other.gguf").write_bytes(b"mine")
    (tmp_path / "other.json").write_bytes(b"{}")
    for odd in ("../other", "none", "", "."):
        assert not discard(tmp_path / "incoming", odd)
    assert discard(tmp_path / "incoming", "tiny") and unfinished(tmp_path / "incoming") == []
    assert (tmp_path / "other.gguf").exists() and unfinished(tmp_path / "none") == []


def test_what_else_lies_there_is_not_taken_for_a_pull(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_bytes(b"[1")
    (tmp_path / "alone.json").write_bytes(b'{"source":"x","total_bytes":5}')
    assert unfinished(tmp_path) == []
