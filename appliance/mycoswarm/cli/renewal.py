"""`update`: another version takes this program's place, if who signed it is trusted, and only if it then answers.

What is checked is what runs: the file is copied beside the program first, and its signature is held against that copy.
Then it must say its version, and a daemon of it must answer on a folder of its own, before anything is replaced. Where
the node is a service, that is started anew, and where it then does not answer, the old version is put back.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from mycoswarm.base.errors import InputError, SetupError, SwarmError
from mycoswarm.cli.screen import guarded, note, say
from mycoswarm.cli.swap import answers, copied, go_back, made_ready, old_of, swap, tried, version_of
from mycoswarm.cli.unit import DATA
from mycoswarm.cli.upkeep import UNIT, find_manager, own_program
from mycoswarm.swarm.signature import PublicKey, read_public_key, read_signature

KEY_NAME = "update.pub"
SYSTEM_KEY = Path("/etc/mycoswarm") / KEY_NAME
HEALTHY_S = 120.0
MAX_TEXT_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Running:
    """The daemon that is to be of the new version: its folder, and how it is started anew, to answer in time."""

    folder: Path
    restart: Callable[[], object]
    within_s: float = HEALTHY_S


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--signature", type=click.Path(path_type=Path), help="Its minisign signature; else FILE.minisig.")
@click.option(
    "--public-key", metavar="KEY", help=f"Whose signature counts; else {SYSTEM_KEY}, or {KEY_NAME} in the data."
)
@click.option("--older", is_flag=True, help="Also take a version that is older than this one.")
@click.pass_obj
@guarded
def update(folder: Path, /, file: Path, signature: Path | None, public_key: str | None, older: bool) -> None:
    """Put FILE, another version of this program, in its place. The one before is kept as NAME.old."""
    program = own_program()
    key = read_public_key(public_key) if public_key else trusted_key(folder)
    manager = find_manager()
    running = None
    if manager.file.exists():
        running = Running(DATA if manager.is_system else folder, lambda: manager.ask("restart", UNIT))
    renew(program, file, signature or file.with_name(f"{file.name}.minisig"), key, older=older, running=running)
    if running is None:
        note("A daemon that runs goes on with the version before, until you start it anew.")


def trusted_key(folder: Path) -> PublicKey:
    """The key that this machine's owner put down. Root takes none from a data folder, where the daemon may write.

    Raises:
        SetupError: there is none.
        TrustError: it is no key.
    """
    places = [SYSTEM_KEY] if os.geteuid() == 0 else [SYSTEM_KEY, folder / KEY_NAME]
    for place in places:
        if place.exists():
            return read_public_key(_text(place))
    raise SetupError(
        "nobody's signature is trusted on this machine yet",
        hint=f"Put the public key of who makes your builds into {places[-1]}, or name it with --public-key.",
        code="no_update_key",
    )


def renew(
    program: Path, file: Path, signature: Path, key: PublicKey, *, older: bool = False, running: Running | None = None
) -> None:
    """All of an update.

    Raises:
        TrustError: the signature does not hold; nothing was changed.
        InputError: the file cannot be read, or is older.
        SetupError: the new version does not start or does not answer; the old one is in its place.
        StorageError: the program's folder cannot be written to.
    """
    read = read_signature(_text(signature))
    fresh, digest = copied(file, program)
    try:
        comment = read.check(key, digest)
        say(f"The signature holds: {comment}")
        made_ready(fresh, program)
        before, after = version_of(program), version_of(fresh)
        if _order(after) < _order(before) and not older:
            raise InputError(
                f"{file} is version {after}, older than {before}",
                hint="Old versions have known faults; --older takes it.",
            )
        tried(fresh)
        swap(fresh, program)
    finally:
        fresh.unlink(missing_ok=True)
    say(f"{program} is version {after} now; {before} is kept as {old_of(program).name}")
    if running is not None:
        _start_anew(program, running, after, before)


def _start_anew(program: Path, running: Running, after: str, before: str) -> None:
    why = "it does not answer"
    try:
        running.restart()
        if answers(running.folder, running.within_s):
            say(f"The daemon runs with {after} and answers.")
            return
    except SwarmError as error:
        why = error.message
    go_back(program)
    running.restart()
    again = "answers" if answers(running.folder, running.within_s) else "does not answer either"
    raise SetupError(
        f"version {after} was taken back: {why}. {before} is in its place again, and {again}",
        hint="The log of the service says more: journalctl -u mycoswarm",
        code="update_taken_back",
    )


def _order(version: str) -> tuple[int, ...]:
    """A version's numbers; what is no number ends them."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read: {exc}") from exc
