"""`service`: this machine runs the node from its start on."""

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from mycoswarm.base.errors import SetupError
from mycoswarm.cli.screen import guarded, note, say
from mycoswarm.cli.unit import CARD_GROUPS, DATA, LABEL, NAME, launchd_job, system_unit, user_unit

UNIT = f"{NAME}.service"
COMMAND_S = 90.0


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager of this machine, or of this person where they are not root. `file`: what we write."""

    file: Path
    is_system: bool

    @property
    def words(self) -> tuple[str, ...]:
        """What a systemctl command begins with."""
        return ("systemctl",) if self.is_system else ("systemctl", "--user")

    def ask(self, *words: str, may_fail: bool = False) -> str:
        """Run one systemctl command.

        Raises:
            SetupError: it failed, or there is no systemd.
        """
        return _command([*self.words, *words], may_fail=may_fail)


@click.group()
def service() -> None:
    """Have this machine run the node from its start on."""


@service.command("install")
@click.option("--print", "only_print", is_flag=True, help="Show what would be written, and do nothing.")
@click.pass_obj
@guarded
def install(folder: Path, /, only_print: bool) -> None:
    """Write the service, and start it: for the whole machine as root, else for this user."""
    program = own_program()
    if sys.platform == "darwin":
        _install_job(program, folder, only_print)
        return
    manager = find_manager()
    text = system_unit(program, _card_groups()) if manager.is_system else user_unit(program, folder.absolute())
    if only_print:
        say(f"# {manager.file}")
        click.echo(text, nl=False)
        return
    if manager.is_system:
        check_reachable(program)
    manager.ask("--version")
    if manager.is_system:
        _make_user()
    manager.file.parent.mkdir(parents=True, exist_ok=True)
    manager.file.write_text(text, "utf-8")
    manager.ask("daemon-reload")
    manager.ask("enable", "--now", UNIT)
    data = DATA if manager.is_system else folder
    say(f"{program} runs from now on: {manager.file}, data in {data}")
    if not manager.is_system:
        note("It ends when you log out, unless you say `loginctl enable-linger`.")


@service.command("status")
@guarded
def status() -> None:
    """Say whether the service is there, and whether it runs."""
    if sys.platform == "darwin":
        say(_command(["launchctl", "list", LABEL], may_fail=True) or "no such job")
        return
    manager = find_manager()
    if not manager.file.exists():
        say(f"not installed: there is no {manager.file}")
        return
    said = [manager.ask(word, UNIT, may_fail=True) for word in ("is-enabled", "is-active")]
    say(f"{manager.file}: {', '.join(said)}")


@service.command("uninstall")
@guarded
def uninstall() -> None:
    """Stop the service and take it away. The data stays."""
    if sys.platform == "darwin":
        _command(["launchctl", "unload", "-w", str(_job_file())], may_fail=True)
        _job_file().unlink(missing_ok=True)
        say("The job is gone; the data stays.")
        return
    manager = find_manager()
    if not manager.file.exists():
        say(f"not installed: there is no {manager.file}")
        return
    manager.ask("disable", "--now", UNIT, may_fail=True)
    manager.file.unlink()
    manager.ask("daemon-reload", may_fail=True)
    left = f" The data stays in {DATA}, and so does the user {NAME}." if manager.is_system else " The data stays."
    say(f"{manager.file} is gone.{left}")


def find_manager() -> Manager:
    """Whose service manager is meant: the machine's where we are root, else this user's."""
    if os.geteuid() == 0:
        return Manager(Path("/etc/systemd/system") / UNIT, True)
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Manager(Path(home) / "systemd" / "user" / UNIT, False)


def own_program() -> Path:
    """The file that people start us by: the outer one, where we are packed.

    Raises:
        SetupError: it cannot be found.
    """
    found = shutil.which(sys.argv[0])
    if found is None:
        raise SetupError(f"this program's own file cannot be found: it was started as {sys.argv[0]!r}")
    return Path(found).absolute()


def check_reachable(program: Path) -> None:
    """A service runs as a user of its own, who must be able to reach the program.

    Raises:
        SetupError: it lies in a folder that is closed to others.
    """
    for path in (program, *program.parents):
        if not path.stat().st_mode & 0o001:
            raise SetupError(
                f"the service runs as a user of its own, and {path} is closed to others",
                hint=f"First: install -m 755 {program} /usr/local/bin/mycoswarm-node",
            )


def _card_groups() -> list[str]:
    found = []
    for name in CARD_GROUPS:
        with contextlib.suppress(KeyError):
            found.append(grp.getgrnam(name).gr_name)
    return found


def _make_user() -> None:
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        words = ["useradd", "--system", "--user-group", "--home-dir", str(DATA), "--no-create-home"]
        _command([*words, "--shell", "/usr/sbin/nologin", NAME])


def _job_file() -> Path:
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def _install_job(program: Path, folder: Path, only_print: bool) -> None:
    text = launchd_job(program, folder.absolute(), folder.absolute() / "daemon.log")
    if only_print:
        say(f"# {_job_file()}")
        click.echo(text, nl=False)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _job_file().parent.mkdir(parents=True, exist_ok=True)
    _job_file().write_bytes(text)
    _command(["launchctl", "load", "-w", str(_job_file())])
    say(f"{program} runs from now on: {_job_file()}. This was not tried on a Mac before.")


def _command(words: list[str], *, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # constants of ours, no shell
            words, capture_output=True, text=True, timeout=COMMAND_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SetupError(
            f"{words[0]} cannot be used here: {exc}",
            hint="`service install --print` shows what it would have been told.",
        ) from exc
    if done.returncode != 0 and not may_fail:
        raise SetupError(f"{' '.join(words)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
