"""The GGUF parser against hostile files, and the headers we write."""

import os
import random
import struct
import time
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from models import write_random_model
from mycoswarm.base.errors import ModelFileError, StorageError, SwarmError
from mycoswarm.catalog.container import encode_header, read_container
from mycoswarm.catalog.facts import facts_of, read_facts
from mycoswarm.catalog.field import Kind, array_field, number_field, text_field

MUTATIONS = 400


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "m.gguf", "llama", n_layer=2, vocab=261)


def header_bytes(path: Path) -> int:
    return read_container(path).data_offset


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One way of many to break a file: flipped bytes, a cut, absurd numbers, swapped and repeated stretches."""
    header = bytearray(data)
    limit = min(len(data), 9000)
    way = chance.randrange(6)
    if way == 0:
        for _ in range(chance.randint(1, 8)):
            header[chance.randrange(limit)] ^= 1 << chance.randrange(8)
    elif way == 1:
        del header[chance.randrange(len(data)) :]
    elif way == 2:
        absurd = chance.choice([2**64 - 1, 2**63, 2**62, 2**48, 2**32, 2**31 - 1, 2**20, 0])
        struct.pack_into("<Q", header, chance.choice([8, 16, chance.randrange(4, limit)]), absurd)
    elif way == 3:
        struct.pack_into("<I", header, chance.randrange(4, limit), chance.choice([0, 8, 9, 13, 255, 2**32 - 1]))
    elif way == 4:
        start, width = chance.randrange(4, limit), chance.randrange(1, 64)
        del header[start : start + width]
    else:
        start, width = chance.randrange(4, limit), chance.randrange(1, 64)
        header[start:start] = header[start : start + width]
    return bytes(header)


@pytest.mark.slow
def test_a_mutated_file_gives_facts_or_a_typed_error_with_a_hint_and_quickly(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    broken = tmp_path / "broken.gguf"
    refused = 0
    for seed in range(MUTATIONS):
        broken.write_bytes(mutate(data, random.Random(seed)))
        start = time.process_time()
        try:
            read_facts(broken)
        except ModelFileError as error:
            assert error.message and error.hint, seed
            refused += 1
        assert time.process_time() - start < 2, seed
    assert refused > MUTATIONS / 2


@pytest.mark.slow
def test_the_child_too_gives_facts_or_a_typed_error_for_mutated_files(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    broken = tmp_path / "broken.gguf"
    for seed in range(MUTATIONS, MUTATIONS + 8):
        broken.write_bytes(mutate(data, random.Random(seed)))
        try:
            in_child: object = facts_of(broken, 20)
        except ModelFileError as error:
            in_child = error.message
        try:
            here: object = read_facts(broken)
        except ModelFileError as error:
            here = error.message
        assert in_child == here


@pytest.mark.slow
@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_behind_the_magic_are_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + tail)
    try:
        read_container(path)
    except SwarmError as error:
        assert isinstance(error, ModelFileError)
    else:
        assert tail[:16] == bytes(16), "only a file that claims nothing may pass"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"GGML" + data[4:], "does not begin with GGUF"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "version 1"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "big-endian"),
        (lambda data: data[:8] + struct.pack("<Q", 2**40) + data[16:], "claims"),
        (lambda data: data[:16] + struct.pack("<Q", 2**63) + data[24:], "claims"),
        (lambda data: data[:24] + struct.pack("<Q", 2**63) + data[32:], "bytes long"),
        (lambda data: data[:2000], "middle of its header"),
        (lambda data: data[:-4096], "not whole"),
        (lambda data: b"", "middle of its header"),
    ],
)
def test_each_fault_is_named(model: Path, tmp_path: Path, change: object, words: str) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(change(model.read_bytes()))  # type: ignore[operator]  # a lambda of the table above
    with pytest.raises(ModelFileError, match=words):
        read_container(broken)


def test_repeated_tensors_wrong_offsets_and_alignments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.gguf"
    f32 = GGMLQuantizationType.F32

    def write(name: str, offset: int, alignment: int) -> None:
        info = b"".join(
            struct.pack("<Q", len(n)) + n + struct.pack("<IQIQ", 1, 8, f32, o)
            for n, o in ((b"a", 0), (name.encode(), offset))
        )
        key = b"general.alignment"
        field = struct.pack("<Q", len(key)) + key + struct.pack("<II", Kind.UINT32, alignment)
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2, 1) + field + info + bytes(500))

    write("b", 32, 32)
    assert [tensor.name for tensor in read_container(path).tensors] == ["a", "b"]
    for name, offset, alignment in (("a", 32, 32), ("b", 0, 32), ("b", 64, 32), ("b", 32, 33), ("b", 32, 0)):
        write(name, offset, alignment)
        with pytest.raises(ModelFileError):
            read_container(path)


def test_a_value_as_long_as_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    key = struct.pack("<Q", 1) + b"k" + struct.pack("<I", Kind.STRING) + struct.pack("<Q", 1 << 39)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key)
    os.truncate(path, 1 << 40)  # a hole: no room on the disk
    with pytest.raises(ModelFileError, match="longer than"):
        read_container(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path(os.devnull)):
        with pytest.raises(ModelFileError):
            read_container(path)


def test_a_header_of_ours_is_read_alike_by_us_and_by_gguf(tmp_path: Path) -> None:
    fields = [
        text_field("general.architecture", "llama"),
        number_field("llama.block_count", Kind.UINT32, 3),
        number_field("llama.rope.freq_base", Kind.FLOAT32, 0.5),
        number_field("general.yes", Kind.BOOL, True),
        array_field("llama.attention.head_count_kv", Kind.INT32, [1, 2, 3]),
    ]
    tensors = [("a", (32, 3), GGMLQuantizationType.Q8_0), ("b", (5,), GGMLQuantizationType.F32)]
    header = encode_header(fields, tensors, region_bytes=8192)
    path = tmp_path / "ours.gguf"
    path.write_bytes(header + bytes(2 * 4096))
    ours, theirs = read_container(path), GGUFReader(path)
    assert len(header) == ours.data_offset == 8192
    assert [ours.scalar(field.key) for field in fields[:4]] == ["llama", 3, 0.5, True]
    assert ours.fields["llama.attention.head_count_kv"].items == [1, 2, 3]
    assert [field.contents() for field in map(theirs.get_field, ours.fields) if field] == [
        *("llama", 3, 0.5, True, [1, 2, 3], 4096),
        ours.text("mycoswarm.padding"),
    ]
    assert [(t.name, t.offset) for t in ours.tensors] == [(t.name, t.data_offset) for t in theirs.tensors]


def test_a_region_that_is_too_small_is_refused() -> None:
    with pytest.raises(StorageError):
        encode_header([text_field("a", "b" * 5000)], [], region_bytes=4096)


def test_our_reading_of_a_model_equals_that_of_gguf(model: Path) -> None:
    ours, theirs = read_container(model), GGUFReader(model)
    assert [(t.name, t.shape, t.kind, t.offset, t.bytes) for t in ours.tensors] == [
        (t.name, tuple(int(width) for width in t.shape), t.tensor_type, t.data_offset, t.n_bytes)
        for t in theirs.tensors
    ]
    for key, field in ours.fields.items():
        read = theirs.fields[key].contents()
        if not field.is_array:
            assert field.scalar == read
        elif field.item_kind is not Kind.STRING:
            assert field.items == read
