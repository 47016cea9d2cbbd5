"""Layer ranges put together: right headers, moved cuts, several at once; each architecture loads in llama.cpp."""

import ctypes
import hashlib
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import gguf
import llama_cpp
import msgspec
import numpy as np
import pytest

from models import ARCHITECTURES, write_random_model
from mycoswarm.base.errors import ModelFileError, SplitError, StorageError
from mycoswarm.catalog.architecture import find_architecture
from mycoswarm.catalog.assembly import ShardFiles, assemble, copy_file
from mycoswarm.catalog.container import encode_header
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.field import Field, Kind, array_field, number_field, text_field
from mycoswarm.catalog.piece import Manifest, PieceFacts, PieceSource, write_manifest

LAYERS = 6


class Holder:
    """A model file, its manifest, and stores filled from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = PieceSource(path)
        self.manifest: Manifest = write_manifest(path)
        self.original = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}

    def store(self, folder: Path, first: int = 0, last: int | None = None) -> PieceStore:
        store = PieceStore(folder)
        for piece in store.missing(self.manifest, first, self.manifest.n_layer if last is None else last):
            store.receive(self.manifest, piece, self.source.open(piece.name))
        return store


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Holder:
    return Holder(
        write_random_model(tmp_path_factory.mktemp("models") / "m.gguf", n_layer=LAYERS, rope_factors=True, vocab=400)
    )


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Holder:
    return Holder(write_random_model(tmp_path_factory.mktemp("models") / "t.gguf", n_layer=LAYERS, tied=True))


def check_shard(holder: Holder, files: ShardFiles, first: int, last: int) -> None:
    """Headers as llama-model-loader.cpp wants them, and tensors equal to the original's."""
    readers = [gguf.GGUFReader(path) for path in files.paths]
    tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
    assert [int(reader.fields["split.no"].contents()) for reader in readers] == list(range(len(readers)))
    fields = readers[0].fields
    assert fields["split.count"].contents() == len(readers)
    assert fields["split.tensors.count"].contents() == len(tensors) == sum(len(reader.tensors) for reader in readers)
    assert fields["llama.block_count"].contents() == last - first
    is_last = last == holder.manifest.n_layer
    assert fields["llama.vocab_size"].contents() == (holder.manifest.n_vocab if is_last else 32)
    assert fields["tokenizer.ggml.model"].contents() == ("llama" if is_last else "none")
    assert ("tokenizer.ggml.tokens" in fields) == is_last
    for name, original in holder.original.items():
        layer = int(name.split(".")[1]) if name.startswith("blk.") else None
        if layer is None:
            continue
        here = tensors.pop(name.replace(f"blk.{layer}.", f"blk.{layer - first}."), None) if layer >= first else None
        assert (here is not None) == (first <= layer < last), name
        if here is not None:
            assert np.array_equal(here.data, original.data)
    assert not [name for name in tensors if name.startswith("blk.")]
    if "rope_freqs.weight" in holder.original:
        assert np.array_equal(tensors["rope_freqs.weight"].data, holder.original["rope_freqs.weight"].data)
    if is_last and "output.weight" in holder.original:
        assert np.array_equal(tensors["output.weight"].data, holder.original["output.weight"].data)
    assert ("output.weight" in tensors) == (is_last and "output.weight" in holder.original)
    rows = 32 if not is_last else holder.manifest.n_vocab
    assert list(tensors["token_embd.weight"].shape) == [holder.manifest.n_embd, rows]


@pytest.mark.slow
def test_shards_of_every_range_hold_exactly_their_layers(holder: Holder, tied: Holder, tmp_path: Path) -> None:
    for each, folder in ((holder, tmp_path / "a"), (tied, tmp_path / "b")):
        store = each.store(folder)
        for first, last in itertools.combinations(range(LAYERS + 1), 2):
            with assemble(store, each.manifest, first, last) as files:
                check_shard(each, files, first, last)
                assert (files.table is not None) == (first == 0 and last < LAYERS)


def test_a_tied_head_has_the_real_table_and_an_untied_one_a_hole(holder: Holder, tied: Holder, tmp_path: Path) -> None:
    with assemble(tied.store(tmp_path / "a"), tied.manifest, 3, LAYERS) as files:
        table = gguf.GGUFReader(files.paths[-1]).tensors[0]
        assert np.array_equal(table.data, tied.original["token_embd.weight"].data)
    with assemble(holder.store(tmp_path / "b", 3, LAYERS), holder.manifest, 3, LAYERS) as files:
        reader = gguf.GGUFReader(files.paths[0])
        stand_in = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
        assert not stand_in.data.any()
        assert "table" not in {path.name.split("-")[0] for path in files.paths}


def test_a_moved_cut_rewrites_headers_and_copies_no_layer(holder: Holder, tmp_path: Path) -> None:
    store = holder.store(tmp_path)

    def layer_files() -> set[tuple[str, int]]:
        return {(path.name, path.stat().st_ino) for path in tmp_path.rglob("layer-*")}

    before = layer_files()
    for first in (2, 3, 1, 0, 4):
        assemble(store, holder.manifest, first, 5).close()
    assert layer_files() == before


def test_two_unlike_cuts_at_once_do_not_disturb_each_other(holder: Holder, tmp_path: Path) -> None:
    store = holder.store(tmp_path)
    with assemble(store, holder.manifest, 1, 4) as one:
        with assemble(store, holder.manifest, 2, 6) as two, assemble(store, holder.manifest, 1, 3) as three:
            check_shard(holder, one, 1, 4)
            check_shard(holder, two, 2, 6)
            check_shard(holder, three, 1, 3)
            assert not {*one.paths[1:]} & {*two.paths}
            assert three.paths[1:] == one.paths[1:3], "equal headers are shared"
        copies = {path.name for path in tmp_path.rglob("*.1.gguf")}
        assert len(copies) == 2, "only the layers that both hold"
    with assemble(store, holder.manifest, 3, 5) as later:
        check_shard(holder, later, 3, 5)
    assert {path.name for path in tmp_path.rglob("*.1.gguf")} == copies
    assert not list(tmp_path.rglob("*.lease"))
    assert not list(tmp_path.rglob("*.partial"))


def test_the_lease_of_a_dead_process_binds_nothing(holder: Holder, tmp_path: Path) -> None:
    store = holder.store(tmp_path)
    folder = tmp_path / holder.manifest.model_digest
    (folder / "old.lease").write_text("\n".join(path.name for path in folder.glob("*.gguf")))
    with assemble(store, holder.manifest, 2, 4) as files:
        check_shard(holder, files, 2, 4)
    assert not list(tmp_path.rglob("*.1.gguf"))
    assert not (folder / "old.lease").exists()


def test_a_damaged_piece_is_named_and_fetched_again(holder: Holder, tmp_path: Path) -> None:
    store = holder.store(tmp_path)
    piece = holder.manifest.pieces[5]
    path = store.path(holder.manifest, piece)
    data = path.read_bytes()
    path.write_bytes(b"\0" * 4096 + data[4096:])
    with pytest.raises(ModelFileError, match="damaged"):
        assemble(store, holder.manifest, 1, 4)
    assert store.missing(holder.manifest, 1, 4) == (piece,)
    with assemble(holder.store(tmp_path), holder.manifest, 1, 4) as files:
        check_shard(holder, files, 1, 4)


def test_missing_pieces_and_impossible_ranges_are_typed_errors(holder: Holder, tmp_path: Path) -> None:
    store = holder.store(tmp_path, 1, 3)
    with pytest.raises(StorageError, match="layer-0003"):
        assemble(store, holder.manifest, 1, 4)
    for first, last in ((2, 2), (-1, 2), (0, 9)):
        with pytest.raises(SplitError):
            assemble(store, holder.manifest, first, last)
    with pytest.raises(SplitError):
        assemble(holder.path, holder.manifest, 0, 3)
    assert assemble(holder.path, holder.manifest, 0, LAYERS).paths == (holder.path,)


def test_a_copied_file_is_equal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 5000)
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture(scope="module")
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    callback = llama_cpp.llama_log_callback(lambda level, text, user: lines.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    yield lines
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))


_silent = llama_cpp.llama_log_callback(lambda level, text, user: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shards_of_each_listed_architecture_load_in_llama_cpp(name: str, tmp_path: Path, log: list[str]) -> None:
    holder = Holder(write_random_model(tmp_path / "m.gguf", name))
    store = holder.store(tmp_path / "pieces")
    n_layer = holder.manifest.n_layer
    for first, last in ((0, 1), (1, n_layer - 3), (n_layer - 3, n_layer), (0, n_layer)):
        with assemble(store, holder.manifest, first, last) as files:
            log.clear()
            paths = (ctypes.c_char_p * len(files.paths))(*[str(path).encode() for path in files.paths])
            model = llama_cpp.llama_model_load_from_splits(
                paths, len(files.paths), llama_cpp.llama_model_default_params()
            )
            assert model, "".join(log[-3:])
            assert llama_cpp.llama_model_n_layer(model) == last - first
            vocabulary = llama_cpp.llama_model_get_vocab(model)
            is_last = last == n_layer
            assert llama_cpp.llama_vocab_n_tokens(vocabulary) == (holder.manifest.n_vocab if is_last else 32)
            llama_cpp.llama_model_free(model)


def test_every_listed_architecture_has_a_test_model() -> None:
    for name in ARCHITECTURES:
        assert find_architecture(name).output_node == "l_out"


def test_a_piece_that_arrives_twice_does_not_disturb_a_range_in_use(holder: Holder, tmp_path: Path) -> None:
    store = holder.store(tmp_path)
    piece = next(piece for piece in holder.manifest.pieces if piece.name == "layer-0003")
    with assemble(store, holder.manifest, 1, 4) as files:
        store.receive(holder.manifest, piece, holder.source.open(piece.name))
        check_shard(holder, files, 1, 4)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "change",
    [
        text_field("llama.attention.head_count", "many"),
        Field(key="llama.attention.head_count", kind=Kind.ARRAY, raw=struct.pack("<IQQ", 8, 1, 0)),
        array_field("llama.attention.head_count", Kind.UINT32, [4] * 5),
        array_field("llama.attention.head_count", Kind.UINT32, [4, 4, 4, 4, 4, 2]),
        number_field("llama.block_count", Kind.UINT32, 7),
        number_field("llama.block_count", Kind.UINT32, 2**31),
        number_field("llama.embedding_length", Kind.UINT32, 32),
    ],
)
def test_metadata_that_lies_is_a_typed_error_or_loads_as_the_layers_say(
    holder: Holder, tmp_path: Path, change: Field
) -> None:
    keys = {field.key: field for field in (*holder.source.model.fields.values(), change)}
    fields = [field for key, field in keys.items() if not key.startswith("tokenizer.")]
    body = encode_header(fields, [])
    pieces = [
        PieceFacts("keys", len(body), hashlib.sha256(body).hexdigest()) if piece.name == "keys" else piece
        for piece in holder.manifest.pieces
    ]
    lying = msgspec.structs.replace(holder.manifest, pieces=tuple(pieces))
    store = PieceStore(tmp_path)
    for piece in store.missing(lying, 1, 4):
        store.receive(lying, piece, [body] if piece.name == "keys" else holder.source.open(piece.name))
    try:
        assemble(store, lying, 1, 4).close()
    except ModelFileError as error:
        assert "cannot be cut" in error.message
    else:
        assert change.kind is Kind.STRING, "the stage's llama.cpp refuses that one"
