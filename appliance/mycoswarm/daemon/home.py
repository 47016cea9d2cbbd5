"""A node's data folder, opened: one daemon at a time, and the parts that outlive a change of role."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from mycoswarm.base.errors import NotFoundError, SwarmError
from mycoswarm.base.program import module_words
from mycoswarm.base.settings import Settings
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.catalog.piece import Manifest, write_manifest
from mycoswarm.catalog.shelf import Shelf, ShelfModel
from mycoswarm.daemon.charter import FIRST_RULES
from mycoswarm.daemon.claim import claimed
from mycoswarm.daemon.gauge import OwnMachine
from mycoswarm.stage.crash import CrashTable
from mycoswarm.store.agenda import Agenda
from mycoswarm.store.allowance import Allowances
from mycoswarm.store.apikey import Keys
from mycoswarm.store.database import Store
from mycoswarm.store.diploma import Diplomas
from mycoswarm.store.endpoint import Endpoints
from mycoswarm.store.finder import Finder
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.login import Logins
from mycoswarm.store.rulebook import RuleBook
from mycoswarm.store.run import Runs
from mycoswarm.store.speed import Speeds
from mycoswarm.store.supplier import Suppliers
from mycoswarm.swarm.card import new_instance_id
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.key import is_signed

DATABASE_NAME = "node.db"
STAGE_ARGV = module_words("mycoswarm.stage.process")
LOOK_S = 1.0  # the shelf is read again at most this often; `models add` shows up within it

log = logging.getLogger(__name__)


class ShelfView:
    """The shelf as the daemon asks it: by digest, often. Satisfies what stage/delivery.py wants of a library."""

    def __init__(self, shelf: Shelf, clock: Callable[[], float] = time.monotonic) -> None:
        self.shelf = shelf
        self._clock = clock
        self._fault: str | None = None
        self._models: tuple[ShelfModel, ...] = ()
        self._read_at = float("-inf")

    def models(self) -> tuple[ShelfModel, ...]:
        """What is on the shelf, at most `LOOK_S` old. A shelf that cannot be read counts as empty; the log says so."""
        now = self._clock()
        if now - self._read_at > LOOK_S:
            self._read_at = now
            try:
                self._models, self._fault = self.shelf.list(), None
            except SwarmError as error:
                if error.message != self._fault:
                    log.error("the shelf cannot be read: %s", error.message)
                self._models, self._fault = (), error.message
        return self._models

    def refresh(self) -> None:
        """Read anew on the next question."""
        self._read_at = float("-inf")

    def facts(self) -> tuple[ModelFacts, ...]:
        """All models' facts, each under its name on this shelf."""
        return tuple(msgspec.structs.replace(model.facts, name=model.name) for model in self.models())

    def path(self, model_digest: str) -> Path | None:
        """Where a model's file is, None where this node does not hold it.

        Raises:
            ModelFileError: its file has changed since it was added.
        """
        model = self._find(model_digest)
        return None if model is None else self.shelf.find(model.name).path

    def manifest(self, model_digest: str) -> Manifest:
        """The list of a model's pieces.

        Raises:
            NotFoundError: this node does not hold it.
            ModelFileError: its file has changed since it was added.
            StorageError: it cannot be read.
        """
        model = self._find(model_digest)
        if model is None:
            raise NotFoundError("this node does not hold that model")
        return model.manifest or write_manifest(model.path, model_digest)

    def _find(self, model_digest: str) -> ShelfModel | None:
        return next((model for model in self.models() if model.facts.digest == model_digest), None)


@dataclass(slots=True, kw_only=True)
class Home:
    """Everything of a node that outlives a change of its role. `ports` remembers ports that were chosen freely."""

    settings: Settings
    identity: Identity
    store: Store
    keys: Keys
    logins: Logins
    rules: RuleBook
    endpoints: Endpoints
    finder: Finder
    ledger: Ledger
    allowances: Allowances
    runs: Runs
    diplomas: Diplomas
    agenda: Agenda
    suppliers: Suppliers
    speeds: Speeds
    shelf: ShelfView
    pieces: PieceStore
    machine: OwnMachine
    crashes: CrashTable = field(default_factory=CrashTable)
    instance_id: str = field(default_factory=new_instance_id)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.settings.data_folder


@contextlib.contextmanager
def open_home(settings: Settings) -> Iterator[Home]:
    """Open a data folder for one daemon.

    Raises:
        SetupError: another daemon runs on it, or a key file may be read by others.
        StorageError: it cannot be made, read or written.
    """
    folder = settings.data_folder
    with claimed(folder):
        identity = Identity.load_or_create(folder, name=settings.name or None)
        store = Store(folder / DATABASE_NAME)
        try:
            speeds, keys = Speeds(store), Keys(store)
            ledger = Ledger(store, identity.key.sign, partial(is_signed, identity.key.public_der))
            yield Home(
                settings=settings,
                identity=identity,
                store=store,
                keys=keys,
                logins=Logins(store, keys),
                rules=RuleBook(store, first=FIRST_RULES, now=time.time()),
                endpoints=Endpoints(store),
                finder=Finder(store),
                ledger=ledger,
                allowances=Allowances(store),
                runs=Runs(store, time.time()),
                diplomas=Diplomas(store),
                agenda=Agenda(store),
                suppliers=Suppliers(store),
                speeds=speeds,
                shelf=ShelfView(Shelf(folder / "models")),
                pieces=PieceStore(folder / "pieces"),
                machine=OwnMachine(folder, gpu=settings.gpu, known_speed=speeds.known().get(identity.node_id)),
            )
        finally:
            store.close()
