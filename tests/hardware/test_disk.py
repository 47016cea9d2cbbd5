from pathlib import Path

from mycoswarm.hardware.disk import UNKNOWN_DISK, read_disk


def test_a_folder_that_is_not_made_yet_is_measured_by_its_parent(tmp_path: Path) -> None:
    disk = read_disk(tmp_path / "not" / "made" / "yet")
    assert disk.total_bytes == read_disk(tmp_path).total_bytes
    assert disk.total_bytes and disk.free_bytes is not None


def test_a_path_that_no_file_system_takes_is_unknown() -> None:
    assert read_disk(Path("x" * 10_000)) == UNKNOWN_DISK
