"""Updates with real processes: programs that answer, that do not, and that nobody vouches for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mycoswarm.base.errors import InputError, SetupError, SwarmError, TrustError
from mycoswarm.base.program import entry_words
from mycoswarm.cli import renewal
from mycoswarm.cli.call import Call
from mycoswarm.cli.renewal import Running, renew, trusted_key
from mycoswarm.cli.swap import old_of
from mycoswarm.swarm.signature import read_public_key
from signatures import Signer

pytestmark = pytest.mark.slow

# A program that is this one, but for the version that it says. `{then}`: what its daemon does first.
PROGRAM = """#!{python}
import os, sys
words = sys.argv[1:]
if words[:1] == ["version"]:
    print('{{"mycoswarm": "{version}"}}')
    sys.exit(0)
{then}
os.execv({entry[0]!r}, [*{entry!r}, *words])
"""
DIES = "sys.exit('no such luck')"
DIES_AT_HOME = "'mycoswarm-update-' in ' '.join(words) or sys.exit('only on a folder of its own')"


def text(version: str, then: str = "") -> bytes:
    return PROGRAM.format(python=sys.executable, version=version, then=then, entry=list(entry_words())).encode()


@dataclass
class Machine:
    """A folder with a program, one with new ones, and a daemon that runs."""

    place: Path
    signer: Signer = field(default_factory=Signer)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def program(self) -> Path:
        return self.place / "bin" / "mycoswarm-node"

    @property
    def data(self) -> Path:
        return self.place / "data"

    def offer(self, content: bytes, *, signer: Signer | None = None) -> tuple[Path, Path]:
        file = self.place / "offered"
        file.write_bytes(content)
        signature = self.place / "offered.minisig"
        signature.write_text((signer or self.signer).sign(content, "the offer"))
        return file, signature

    def renew(
        self,
        content: bytes,
        *,
        signer: Signer | None = None,
        older: bool = False,
        service: bool = False,
        within_s: float = 20.0,
    ) -> None:
        file, signature = self.offer(content, signer=signer)
        running = Running(self.data, self.restart, within_s) if service else None
        renew(self.program, file, signature, read_public_key(self.signer.public), older=older, running=running)

    def restart(self) -> None:
        self.stop()
        ports = ("--console", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--interface", "127.0.0.1")
        with (self.place / "log").open("ab") as sink:
            self.process = subprocess.Popen(
                [str(self.program), "--data", str(self.data), "run", *ports, "--with-stdin"],
                stdin=subprocess.PIPE,
                stderr=sink,
            )

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(30)

    def entries(self) -> set[str]:
        return {path.name for path in self.program.parent.iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with version 1.0."""
    made = Machine(tmp_path)
    made.program.parent.mkdir()
    made.program.write_bytes(text("1.0"))
    made.program.chmod(0o755)
    yield made
    made.stop()


def test_a_signed_version_that_answers_takes_the_place_and_the_old_one_is_kept(machine: Machine) -> None:
    machine.renew(text("1.10"))
    assert machine.program.read_bytes() == text("1.10")
    assert old_of(machine.program).read_bytes() == text("1.0")
    assert machine.entries() == {"mycoswarm-node", "mycoswarm-node.old"}
    assert machine.program.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("how", ["another key", "altered", "not signed"])
def test_nothing_runs_and_nothing_changes_without_a_trusted_signature(machine: Machine, how: str) -> None:
    mark = machine.place / "ran"
    content = text("2.0", f"open({str(mark)!r}, 'w')").replace(
        b"words = ", f"open({str(mark)!r}, 'w'); words = ".encode()
    )
    file, signature = machine.offer(content, signer=Signer() if how == "another key" else None)
    if how == "altered":
        file.write_bytes(content + b"#")
    if how == "not signed":
        signature.unlink()
    with pytest.raises(InputError if how == "not signed" else TrustError):
        renew(machine.program, file, signature, read_public_key(machine.signer.public))
    assert not mark.exists() and machine.entries() == {"mycoswarm-node"}
    assert machine.program.read_bytes() == text("1.0")


@pytest.mark.parametrize("content", [b"no program at all", text("2.0", DIES)])
def test_what_does_not_start_or_answer_never_takes_the_place(machine: Machine, content: bytes) -> None:
    with pytest.raises(SetupError, match="does not"):
        machine.renew(content)
    assert machine.program.read_bytes() == text("1.0") and machine.entries() == {"mycoswarm-node"}


def test_an_older_version_is_taken_only_when_it_is_meant(machine: Machine) -> None:
    with pytest.raises(InputError, match="older"):
        machine.renew(text("0.9"))
    assert machine.program.read_bytes() == text("1.0")
    machine.renew(text("0.9"), older=True)
    assert machine.program.read_bytes() == text("0.9")


def test_a_daemon_is_started_anew_with_the_new_version(machine: Machine) -> None:
    machine.restart()
    machine.renew(text("1.1"), service=True)
    assert Call(machine.data).is_alive() and machine.program.read_bytes() == text("1.1")


def test_a_version_that_does_not_answer_in_its_place_is_taken_back(machine: Machine) -> None:
    machine.restart()
    with pytest.raises(SwarmError, match="taken back") as caught:
        machine.renew(text("1.1", DIES_AT_HOME), service=True, within_s=8.0)  # the whole of it is waited for
    assert caught.value.code == "update_taken_back" and "and answers" in caught.value.message
    assert machine.program.read_bytes() == text("1.0") and Call(machine.data).is_alive()


def test_a_folder_that_may_not_be_written_to_is_named(machine: Machine) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    machine.program.parent.chmod(0o555)
    with pytest.raises(SwarmError, match="cannot be written to"):
        machine.renew(text("1.1"))


def test_no_key_means_no_update(tmp_path: Path) -> None:
    if renewal.SYSTEM_KEY.exists():
        pytest.skip("this machine trusts a key")
    with pytest.raises(SetupError, match="nobody's signature"):
        trusted_key(tmp_path)
