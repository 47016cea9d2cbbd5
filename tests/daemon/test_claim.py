"""A data folder is one process's at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from mycoswarm.base.errors import SetupError, StorageError
from mycoswarm.daemon.claim import claimed

HOLD = "import sys; from pathlib import Path; from mycoswarm.daemon.claim import claimed\n"
HOLD += "with claimed(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_a_folder_is_claimed_once_and_can_be_claimed_again_afterwards(tmp_path: Path) -> None:
    with claimed(tmp_path / "node"):
        with (
            pytest.raises(SetupError, match="another mycoswarm-node already runs") as caught,
            claimed(tmp_path / "node"),
        ):
            pass
        assert caught.value.code == "already_running"
    with claimed(tmp_path / "node"):
        assert (tmp_path / "node").stat().st_mode & 0o077 == 0


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with pytest.raises(SetupError), claimed(tmp_path):
            pass
        child.kill()
    with claimed(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"), claimed(tmp_path / "file" / "node"):
        pass
