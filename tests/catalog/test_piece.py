"""Pieces: streamed out of one file, listed, checked on arrival."""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from models import write_random_model
from mycoswarm.base.errors import ModelFileError, SplitError, StorageError
from mycoswarm.catalog.container import read_container
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.piece import (
    Manifest,
    PieceSource,
    find_manifest_fault,
    hash_file,
    open_piece,
    pieces_for,
    write_manifest,
)

LAYERS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "m.gguf", "llama", n_layer=LAYERS, rope_factors=True)


@pytest.fixture(scope="module")
def source(model: Path) -> PieceSource:
    return PieceSource(model)


@pytest.fixture(scope="module")
def manifest(model: Path) -> Manifest:
    return write_manifest(model)


def test_the_manifest_names_every_piece_with_its_bytes_and_hash(
    model: Path, source: PieceSource, manifest: Manifest
) -> None:
    assert manifest.model_digest == hash_file(model) == hashlib.sha256(model.read_bytes()).hexdigest()
    assert [piece.name for piece in manifest.pieces] == [
        *("keys", "tokenizer", "table"),
        *(f"layer-000{layer}" for layer in range(LAYERS)),
        "head",
    ]
    for piece in manifest.pieces:
        data = b"".join(open_piece(model, manifest, piece.name))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (piece.bytes, piece.sha256)
    assert (manifest.n_embd, manifest.n_vocab, manifest.table_type, manifest.is_tied) == (64, 320, "Q8_0", False)
    assert find_manifest_fault(manifest) is None


def test_pieces_hold_the_tensors_of_the_model_byte_for_byte(model: Path, source: PieceSource, tmp_path: Path) -> None:
    whole = {tensor.name: tensor for tensor in gguf.GGUFReader(model).tensors}
    seen: set[str] = set()
    for name in source.plans:
        path = tmp_path / name
        path.write_bytes(b"".join(source.open(name)))
        layer = int(name[-4:]) if name.startswith("layer") else 0
        for tensor in gguf.GGUFReader(path).tensors if name != "tokenizer" else []:
            original = whole[tensor.name.replace("blk.0.", f"blk.{layer}.")]
            assert np.array_equal(tensor.data, original.data)
            assert tensor.data_offset % 4096 == 0
            seen.add(original.name)
    assert seen == set(whole)


def test_the_tokenizer_is_in_its_own_piece(source: PieceSource, tmp_path: Path) -> None:
    found = {}
    for name in ("keys", "tokenizer"):
        (tmp_path / name).write_bytes(b"".join(source.open(name)))
        found[name] = set(read_container(tmp_path / name).fields) - {"general.alignment", "mycoswarm.padding"}
    assert all(key.startswith("tokenizer.") for key in found["tokenizer"])
    assert not any(key.startswith("tokenizer.") for key in found["keys"])
    assert found["tokenizer"] | found["keys"] == set(source.model.fields)


def test_two_models_with_one_layer_in_common_share_that_pieces_hash(tmp_path: Path) -> None:
    short = write_manifest(write_random_model(tmp_path / "a.gguf", n_layer=2))
    long = write_manifest(write_random_model(tmp_path / "b.gguf", n_layer=3))
    hashes = [{piece.name: piece.sha256 for piece in manifest.pieces} for manifest in (short, long)]
    assert hashes[0]["layer-0001"] == hashes[1]["layer-0001"]
    assert hashes[0]["head"] != hashes[1]["head"]


def test_a_range_needs_its_layers_and_only_the_ends_need_more(manifest: Manifest) -> None:
    def names(first: int, last: int, tied: bool = False) -> set[str]:
        listed = pieces_for(msgspec.structs.replace(manifest, is_tied=tied), first, last)
        return {piece.name for piece in listed if not piece.name.startswith("layer")}

    assert names(0, 3) == {"keys", "table"}
    assert names(2, 4) == {"keys"}
    assert names(3, 6) == {"keys", "tokenizer", "head"}
    assert names(3, 6, tied=True) == {"keys", "tokenizer", "head", "table"}
    assert [piece.name for piece in pieces_for(manifest, 2, 4)] == ["keys", "layer-0002", "layer-0003"]
    for first, last in ((0, 7), (3, 3), (-1, 2), (4, 2)):
        with pytest.raises(SplitError):
            pieces_for(manifest, first, last)


def test_every_cut_shares_the_layers_out_without_gap_or_double(manifest: Manifest) -> None:
    for cuts in itertools.combinations(range(1, LAYERS), 2):
        edges = [0, *cuts, LAYERS]
        parts = [pieces_for(manifest, a, b) for a, b in itertools.pairwise(edges)]
        layers = [piece.name for part in parts for piece in part if piece.name.startswith("layer")]
        assert layers == [f"layer-{layer:04d}" for layer in range(LAYERS)]


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "../../etc/passwd"},
        {"model_digest": "A" * 64},
        {"architecture": "mamba"},
        {"n_layer": 5},
        {"n_layer": 100000},
        {"n_layer": -1},
        {"n_embd": 0},
        {"n_vocab": 1 << 60},
    ],
)
def test_an_impossible_manifest_is_refused(manifest: Manifest, tmp_path: Path, change: dict[str, object]) -> None:
    wrong = msgspec.structs.replace(manifest, **change)
    assert find_manifest_fault(wrong)
    with pytest.raises(ModelFileError) as caught:
        PieceStore(tmp_path).begin(wrong, manifest.pieces[0])
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_pieces_with_names_sizes_or_hashes_of_their_own_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    first, *rest = manifest.pieces
    for piece in (
        msgspec.structs.replace(first, name="../evil"),
        msgspec.structs.replace(first, name="layer-0001"),
        msgspec.structs.replace(first, bytes=0),
        msgspec.structs.replace(first, sha256="0" * 63),
    ):
        wrong = msgspec.structs.replace(manifest, pieces=(piece, *rest))
        with pytest.raises(ModelFileError):
            PieceStore(tmp_path).begin(wrong, piece)
        with pytest.raises(ModelFileError):
            PieceStore(tmp_path).begin(manifest, piece)


def test_a_received_piece_counts_and_a_false_one_leaves_nothing(
    source: PieceSource, manifest: Manifest, tmp_path: Path
) -> None:
    store = PieceStore(tmp_path)
    piece = manifest.pieces[4]
    data = b"".join(source.open(piece.name))
    for wrong in (data[:-1], data + b"x", data[:-1] + b"\xff", b"", b"".join(source.open("layer-0002"))):
        with pytest.raises(ModelFileError, match="layer-0001"):
            store.receive(manifest, piece, [wrong])
        assert not store.has(manifest, piece)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert store.receive(manifest, piece, [data[:100], data[100:]]).read_bytes() == data
    assert store.has(manifest, piece)
    assert piece not in store.missing(manifest, 0, 6)


def test_a_promised_piece_that_is_no_layer_is_refused(source: PieceSource, manifest: Manifest, tmp_path: Path) -> None:
    bodies = {name: b"".join(source.open(name)) for name in source.plans}
    pairs = [
        ("layer-0001", "head"),
        ("head", "table"),
        ("table", "layer-0003"),
        ("keys", "head"),
        ("tokenizer", "table"),
    ]
    for name, other in [*pairs, ("layer-0001", "noise")]:
        body = bodies.get(other, b"GGUF" + bytes(5000))
        lying = [
            msgspec.structs.replace(piece, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
            if piece.name == name
            else piece
            for piece in manifest.pieces
        ]
        wrong = msgspec.structs.replace(manifest, pieces=tuple(lying))
        piece = next(piece for piece in lying if piece.name == name)
        with pytest.raises(ModelFileError):
            PieceStore(tmp_path).receive(wrong, piece, [body])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_interrupted_piece_leaves_nothing(source: PieceSource, manifest: Manifest, tmp_path: Path) -> None:
    class Lost(Exception):
        pass

    with pytest.raises(Lost), PieceStore(tmp_path).begin(manifest, manifest.pieces[4]) as incoming:
        incoming.write(b"GGUF")
        raise Lost
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_forgotten_model_is_gone_and_no_other_folder_is_touched(manifest: Manifest, tmp_path: Path) -> None:
    store = PieceStore(tmp_path / "pieces")
    (tmp_path / "pieces" / manifest.model_digest).mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for digest in ("../other", "", ".", "a/../../other"):
        store.remove(digest)
    assert (tmp_path / "other").exists()
    store.remove(manifest.model_digest)
    assert not list((tmp_path / "pieces").iterdir())


FILL = """
import resource, sys
from pathlib import Path
from mycoswarm.base.errors import StorageError
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.piece import PieceSource, write_manifest
source = PieceSource(Path(sys.argv[1]))
manifest = write_manifest(Path(sys.argv[1]))
piece = next(piece for piece in manifest.pieces if piece.name == "layer-0002")
if sys.argv[3] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    PieceStore(Path(sys.argv[2])).receive(manifest, piece, source.open(piece.name))
except StorageError as error:
    left = [str(path) for path in Path(sys.argv[2]).rglob("*") if path.is_file()]
    print(error.code, "full" in error.message, bool(error.hint), left)
"""


def fill(prefix: list[str], model: Path, folder: Path, way: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [*prefix, sys.executable, "-c", FILL, str(model), str(folder), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_a_storage_error_that_leaves_nothing(model: Path, tmp_path: Path) -> None:
    assert fill([], model, tmp_path, "limit") == "disk_full True True []"


@pytest.mark.root
@pytest.mark.slow
def test_a_full_disk_is_a_storage_error_that_leaves_nothing(model: Path, tmp_path: Path) -> None:
    small = f'mount -t tmpfs -o size=16k mycoswarm "{tmp_path}" && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", small, "sh"]
    probe = subprocess.run([*prefix, "true"], capture_output=True, timeout=30)
    if probe.returncode:
        pytest.skip("needs root to mount a small file system in a namespace of its own")
    assert fill(prefix, model, tmp_path, "disk") == "disk_full True True []"


def test_a_folder_that_cannot_be_written_is_a_storage_error(
    source: PieceSource, manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        PieceStore(tmp_path / "file").receive(manifest, manifest.pieces[0], source.open("keys"))


def test_a_model_off_the_list_has_no_pieces(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="one layer only"):
        PieceSource(write_random_model(tmp_path / "m.gguf", n_layer=1))
    with pytest.raises(ModelFileError, match="no piece"):
        PieceSource(write_random_model(tmp_path / "n.gguf", n_layer=2)).open("layer-0002")
