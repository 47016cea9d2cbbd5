"""The shelf: the model files that this node holds, under names that people give them.

    <folder>/NAME.gguf    the model: shared blocks or a hard link with the file that was added, else a copy
    <folder>/NAME.json    its facts and its manifest, and the size and time by which a change is noticed

The built-in model `spore` is always there; its file lies in the package and only its record on the shelf.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mycoswarm.base.errors import InputError, ModelFileError, NotFoundError
from mycoswarm.catalog.assembly import copy_file
from mycoswarm.catalog.depot import check_space, translated
from mycoswarm.catalog.facts import CHILD, ModelFacts, facts_of, read_facts
from mycoswarm.catalog.piece import Manifest, Watcher, write_manifest

BUILT_IN = "spore"
BUILT_IN_PATH = Path(__file__).with_name("spore.gguf")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
_MIN_DIGEST_CHARACTERS = 6
_FICLONE = 0x40049409  # Linux: share all blocks of another file (btrfs, xfs)


class ShelfRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a model file. `manifest` is None where the model cannot be split."""

    facts: ModelFacts
    manifest: Manifest | None
    modified_ns: int


class ShelfModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model on the shelf."""

    name: str
    path: Path
    facts: ModelFacts
    manifest: Manifest | None
    is_built_in: bool = False


class Shelf:
    """The models of this node. Blocking: call it from a thread.

    `child` starts the process that reads unknown files; a packed binary names itself there.
    """

    def __init__(self, folder: Path, *, built_in: Path = BUILT_IN_PATH, child: Sequence[str] = CHILD) -> None:
        self.folder = folder
        self._built_in = built_in
        self._child = child

    def add(self, file: Path, name: str | None = None, watch: Watcher | None = None) -> ShelfModel:
        """Check a file and put it on the shelf; the file itself stays where it is. The name defaults to the file's.

        `watch` is told bytes read of bytes to read; the file is read twice where it can be split.

        Raises:
            ModelFileError: no sound model file.
            InputError: the name cannot be used or is taken, or the model is already there.
            StorageError: the disk is full, or a file cannot be read or written.
        """
        chosen = name if name is not None else name_of(file)
        facts = facts_of(file, watch=_half(watch, 0), command=self._child)
        self.check_new(chosen, facts.digest)
        partial = self.folder / f".{chosen}.{os.getpid()}.partial"
        with translated(partial):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                _place(file, partial)
                manifest = write_manifest(partial, facts.digest, _half(watch, 1)) if facts.splittable else None
                record = ShelfRecord(facts=facts, manifest=manifest, modified_ns=partial.stat().st_mtime_ns)
                self._write_record(chosen, record)
                partial.replace(self.folder / f"{chosen}.gguf")
            finally:
                partial.unlink(missing_ok=True)
        return self._model(chosen, record)

    def list(self) -> tuple[ShelfModel, ...]:
        """All models by name, the built-in one among them; a model whose file is gone is left out.

        Raises:
            StorageError: the folder cannot be read.
        """
        models = []
        with translated(self.folder):
            for path in sorted(self.folder.glob("*.gguf")) if self.folder.exists() else ():
                record = self._read_record(path.stem)
                if record is not None and path.stem != BUILT_IN:
                    models.append(self._model(path.stem, record))
        if (built_in := self._find_built_in()) is not None:
            models.append(built_in)
        return tuple(sorted(models, key=lambda model: model.name))

    def find(self, reference: str) -> ShelfModel:
        """The model of a name, or of a digest's unmistakable beginning (at least six characters).

        Raises:
            NotFoundError: there is none; the hint names what there is.
            ModelFileError: its file has changed since it was added.
            StorageError: the folder cannot be read.
        """
        models = self.list()
        found = [model for model in models if model.name == reference]
        if not found and len(reference) >= _MIN_DIGEST_CHARACTERS:
            found = [model for model in models if model.facts.digest.startswith(reference.lower())]
        if not found:
            raise NotFoundError(f"there is no model {reference!r} here", hint=_names_hint(models))
        if len(found) > 1:
            raise NotFoundError(f"{reference!r} could be several models", hint=_names_hint(found))
        self._check_unchanged(found[0])
        return found[0]

    def remove(self, name: str) -> None:
        """Take a model off the shelf; stages that run it keep it until they end.

        Raises:
            NotFoundError: there is none of that name.
            InputError: it is the built-in one.
            StorageError: it cannot be removed.
        """
        if name == BUILT_IN:
            raise InputError(f"{BUILT_IN} is part of this program", hint="It cannot be removed; leave it where it is.")
        models = self.list()
        if all(model.name != name for model in models):
            raise NotFoundError(f"there is no model {name!r} here", hint=_names_hint(models))
        with translated(self.folder):
            (self.folder / f"{name}.gguf").unlink(missing_ok=True)
            (self.folder / f"{name}.json").unlink(missing_ok=True)

    def check_new(self, name: str, digest: str | None) -> None:
        """Make sure that a model can be put here. `digest` None: it is not known yet.

        Raises:
            InputError: the name cannot be used or is taken, or the model is already there.
            StorageError: the folder cannot be read.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"{name[:120]!r} cannot be a model's name", hint="Use letters, digits, dots, dashes.")
        for model in self.list():
            if model.facts.digest == digest:
                raise InputError(
                    f"this model is already here under the name {model.name!r}", hint="Use it.", code="already_there"
                )
            if model.name.lower() == name.lower():
                raise InputError(
                    f"the name {name!r} is taken by another model", hint="Add it as `--name OTHER`.", code="name_taken"
                )
        if name.lower() == BUILT_IN:
            raise InputError(f"the name {name!r} is the built-in model's", hint="Add it as `--name OTHER`.")

    def _find_built_in(self) -> ShelfModel | None:
        """The built-in model; its record is made on first use and when the program brings another file."""
        if not self._built_in.exists():
            return None
        record = self._read_record(BUILT_IN)
        state = self._built_in.stat()
        if record is None or (record.facts.file_bytes, record.modified_ns) != (state.st_size, state.st_mtime_ns):
            facts = read_facts(self._built_in)
            manifest = write_manifest(self._built_in, facts.digest) if facts.splittable else None
            record = ShelfRecord(facts=facts, manifest=manifest, modified_ns=state.st_mtime_ns)
            with translated(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write_record(BUILT_IN, record)
        return self._model(BUILT_IN, record)

    def _model(self, name: str, record: ShelfRecord) -> ShelfModel:
        is_built_in = name == BUILT_IN
        path = self._built_in if is_built_in else self.folder / f"{name}.gguf"
        return ShelfModel(name=name, path=path, facts=record.facts, manifest=record.manifest, is_built_in=is_built_in)

    def _check_unchanged(self, model: ShelfModel) -> None:
        record = self._read_record(model.name)
        with translated(model.path):
            state = model.path.stat()
        if record is None or (record.facts.file_bytes, record.modified_ns) != (state.st_size, state.st_mtime_ns):
            raise ModelFileError(
                f"the file of {model.name!r} has changed since it was added",
                hint=f"Remove it with `mycoswarm-node models remove {model.name}` and add it again.",
            )

    def _read_record(self, name: str) -> ShelfRecord | None:
        """None where there is none, or one of another version of this program: the file must be added again."""
        with translated(self.folder):
            try:
                return msgspec.json.decode((self.folder / f"{name}.json").read_bytes(), type=ShelfRecord)
            except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
                return None

    def _write_record(self, name: str, record: ShelfRecord) -> None:
        partial = self.folder / f".{name}.{os.getpid()}.json.partial"
        try:
            partial.write_bytes(msgspec.json.encode(record))
            partial.replace(self.folder / f"{name}.json")
        finally:
            partial.unlink(missing_ok=True)


def name_of(file: Path) -> str:
    """A usable name out of a file's: "Qwen3 4B.gguf" is "Qwen3-4B"."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", file.stem).strip("-._+")
    return plain[:120] or "model"


def _half(watch: Watcher | None, index: int) -> Watcher | None:
    """Progress of one of two passes as part of both."""
    if watch is None:
        return None
    tell = watch
    return lambda done, total: tell(done + index * total, 2 * total)


def _place(source: Path, target: Path) -> None:
    """Have a file's contents under another name: shared blocks, else a hard link, else a copy."""
    with source.open("rb") as origin, target.open("wb") as copy, contextlib.suppress(OSError):
        fcntl.ioctl(copy, _FICLONE, origin.fileno())
        return
    target.unlink()
    with contextlib.suppress(OSError):
        target.hardlink_to(source.resolve())
        return
    check_space(target.parent, source.stat().st_size)
    copy_file(source, target)


def _names_hint(models: Sequence[ShelfModel]) -> str:
    if not models:
        return "Add one with `mycoswarm-node models add FILE`."
    return "There are: " + ", ".join(f"{model.name} ({model.facts.digest[:12]})" for model in models) + "."
