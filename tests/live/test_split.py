"""The test that guards the product: a model cut into layer ranges gives what the whole model gives, bit for bit.

Same conditions (DESIGN 3.6): the same steps go through one engine that has all layers and through two or three that
have some each, out of pieces as nodes exchange them. Every logit of every wanted row is compared, not only the tokens.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import mycoswarm.catalog
from models import ARCHITECTURES as MODELS
from models import SHAPES, write_random_model
from mycoswarm.base.errors import CaptureError
from mycoswarm.catalog.architecture import ARCHITECTURES, find_architecture
from mycoswarm.catalog.assembly import ShardFiles, assemble
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.piece import open_piece, write_manifest
from mycoswarm.catalog.table import Table
from mycoswarm.stage.engine import Batch, Engine
from mycoswarm.wire.plan import Conditions

SPORE = Path(mycoswarm.catalog.__file__).with_name("spore.gguf")
CONDITIONS = Conditions(n_ctx=512, n_ubatch=16, n_seq_max=4, n_threads=1)
N_STEPS = 5
WINDOW_CUTS = ((6,), (7,), (3, 10), (11, 12))  # layer 11 sees everything in each, so [11, 12) has no window


@dataclass(frozen=True, slots=True)
class Chain:
    """Stages in layer order; the last one is the head."""

    engines: tuple[Engine, ...]
    files: tuple[ShardFiles, ...] = ()
    table: Table | None = None

    def step(self, batch: Batch) -> dict[int, NDArray[np.float32]]:
        """The logits of all wanted rows, by row."""
        if self.table is not None and batch.tokens is not None:
            batch = replace_input(batch, self.table.rows(batch.tokens))
        for engine in self.engines:
            hidden = engine.decode(batch).hidden
            if hidden is not None:
                batch = replace_input(batch, hidden)
        return {int(row): self.engines[-1].logits(int(row)) for row in np.flatnonzero(batch.wanted)}

    def remove(self, sequence: int, first: int, last: int) -> None:
        for engine in self.engines:
            engine.remove(sequence, first, last)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        for files in self.files:
            files.close()


def replace_input(batch: Batch, hidden: NDArray[np.float32]) -> Batch:
    return Batch(batch.positions, batch.sequences, batch.wanted, hidden=hidden)


@dataclass
class Talk:
    """One sequence: what it has said and what it has yet to decode."""

    sequence: int
    to_do: list[int]
    position: int = 0
    said: list[int] = field(default_factory=list)


def generate(
    chain: Chain, prompts: Sequence[Sequence[int]], n_ubatch: int = CONDITIONS.n_ubatch, n_steps: int = N_STEPS
) -> list[NDArray[np.float32]]:
    """Greedy answers to all prompts at once: each step takes from every sequence in turn what fits into `n_ubatch`
    rows, so that long prompts come in chunks beside others' single tokens. Gives the logits of every wanted row."""
    talks = [Talk(number, list(prompt)) for number, prompt in enumerate(prompts)]
    record: list[NDArray[np.float32]] = []
    while any(talk.to_do and len(talk.said) <= n_steps for talk in talks):
        rows: list[tuple[int, int, int, bool]] = []
        owners: dict[int, Talk] = {}
        share = max(1, n_ubatch // len(talks))
        for talk in talks:
            chunk = talk.to_do[:share] if len(talk.said) <= n_steps else []
            for token in chunk:
                talk.to_do.pop(0)
                rows.append((token, talk.position, talk.sequence, not talk.to_do))
                talk.position += 1
            if chunk and not talk.to_do:
                owners[len(rows) - 1] = talk
        logits = chain.step(make_batch(rows))
        for row, values in logits.items():
            record.append(values)
            token = int(values.argmax())
            owners[row].said.append(token)
            owners[row].to_do = [token]
    return record


def make_batch(rows: Sequence[tuple[int, int, int, bool]]) -> Batch:
    tokens, positions, sequences, wanted = (np.array(column) for column in zip(*rows, strict=True))
    return Batch(
        positions.astype(np.int32), sequences.astype(np.int32), wanted.astype(bool), tokens=tokens.astype(np.int32)
    )


class Bench:
    """One model file, its pieces, and chains over them that are closed in the end."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.manifest = write_manifest(path)
        self.store = PieceStore(folder)
        for piece in self.manifest.pieces:
            self.store.receive(self.manifest, piece, open_piece(path, self.manifest, piece.name))
        self.output_name = find_architecture(self.manifest.architecture).output_node
        self._open: list[Chain] = []

    @property
    def n_layer(self) -> int:
        return self.manifest.n_layer

    def whole(self, conditions: Conditions = CONDITIONS) -> Chain:
        """All layers, straight from the model file."""
        engine = Engine.open([self.path], conditions, n_layer=self.n_layer, is_head=True, feeds_tokens=True, gpu=False)
        return self._keep(Chain((engine,)))

    def split(self, cuts: Sequence[int], conditions: Conditions = CONDITIONS) -> Chain:
        """Stages over the pieces, cut at `cuts`; without cuts, one stage of all pieces."""
        bounds = [0, *cuts, self.n_layer]
        files = [assemble(self.store, self.manifest, a, b) for a, b in itertools.pairwise(bounds)]
        engines = []
        for (first, last), shard in zip(itertools.pairwise(bounds), files, strict=True):
            engines.append(
                Engine.open(
                    shard.paths,
                    conditions,
                    n_layer=last - first,
                    is_head=last == self.n_layer,
                    feeds_tokens=not cuts,
                    gpu=False,
                    output_name=self.output_name,
                )
            )
        table = Table.open(files[0].table, files[0].table_scale) if files[0].table is not None else None
        assert (table is None) == (not cuts)
        return self._keep(Chain(tuple(engines), tuple(files), table))

    def close(self) -> None:
        for chain in self._open:
            chain.close()

    def _keep(self, chain: Chain) -> Chain:
        self._open.append(chain)
        return chain


Make = Callable[[Path], Bench]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def make(path: Path) -> Bench:
        made.append(Bench(path, tmp_path / "pieces"))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def random_prompts(n_vocab: int, *lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(261, n_vocab, length).tolist() for length in lengths]


def assert_same(found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> None:
    assert len(found) == len(expected)
    for row, (one, other) in enumerate(zip(found, expected, strict=True)):
        difference = float(np.abs(one - other).max())
        assert np.array_equal(one, other), f"wanted row {row}: logits differ by up to {difference}"


def cuts_of(n_layer: int) -> list[tuple[int, ...]]:
    """Cuts for one, two and three stages: at both ends, in the middle, and at no multiple of anything."""
    return [(), (n_layer // 2,), (n_layer - 1,), (1, 2), (n_layer // 3 + 1, n_layer - 3)]


def test_every_listed_architecture_has_a_model_here() -> None:
    assert set(MODELS) == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_split_equals_whole(arch: str, tmp_path: Path, make_bench: Make) -> None:
    bench = make_bench(write_random_model(tmp_path / "model.gguf", arch))
    assert bench.n_layer == SHAPES[arch].n_layer  # what llama.cpp derives from the layer count shows only at a real one
    prompts = random_prompts(bench.manifest.n_vocab, 5, 41, 22)
    expected = generate(bench.whole(), prompts)
    assert len(expected) == 3 * (N_STEPS + 1)
    for cuts in cuts_of(bench.n_layer):
        assert_same(generate(bench.split(cuts), prompts), expected)


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [(), (1,), (4,), (7,), (3, 5)])
def test_the_embedded_model_split_equals_whole(cuts: tuple[int, ...], make_bench: Make) -> None:
    bench = make_bench(SPORE)
    whole = bench.whole()
    vocabulary = whole.engines[0].vocabulary
    assert vocabulary is not None
    turns = ("Hello, who are you?", "What is 17 plus 25?", "Count from three to nine, then say what mycoSwarm is. " * 4)
    texts = [f"<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n" for turn in turns]
    prompts = [vocabulary.tokenize(text, special=True) for text in texts]
    assert max(map(len, prompts)) > 3 * CONDITIONS.n_ubatch
    assert_same(generate(bench.split(cuts), prompts), generate(whole, prompts))


@pytest.mark.slow
@pytest.mark.parametrize("arch", [name for name in sorted(SHAPES) if SHAPES[name].window])
def test_sliding_windows_shorter_than_the_prompt_split_at_any_cut(arch: str, tmp_path: Path, make_bench: Make) -> None:
    """The real layer counts are more than two periods of windowed and full layers."""
    bench = make_bench(write_random_model(tmp_path / "model.gguf", arch, sliding_window=6))
    prompts = random_prompts(bench.manifest.n_vocab, 70, 9, 33)
    expected = generate(bench.whole(), prompts)
    wide = Bench(write_random_model(tmp_path / "wide.gguf", arch, sliding_window=512), tmp_path / "wide")
    assert not np.array_equal(generate(wide.whole(), prompts)[-1], expected[-1])  # so the window is felt
    wide.close()
    for cuts in WINDOW_CUTS:
        assert_same(generate(bench.split(cuts), prompts), expected)


VARIANTS = {
    "experts": {"experts": 4},
    "tied": {"tied": True},
    "rope-factors": {"rope_factors": True},
    "one-kv-head": {"kv_heads": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_of_llama_split_equal_whole(variant: dict[str, int], tmp_path: Path, make_bench: Make) -> None:
    bench = make_bench(write_random_model(tmp_path / "model.gguf", "llama", n_layer=8, **variant))  # type: ignore[arg-type]  # one of several keywords
    prompts = random_prompts(bench.manifest.n_vocab, 20, 3)
    expected = generate(bench.whole(), prompts)
    for cuts in ((), (4,), (3, 5)):
        assert_same(generate(bench.split(cuts), prompts), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(n_ctx=512, n_ubatch=3, n_seq_max=4),  # less than sequences
        Conditions(n_ctx=512, n_ubatch=64, n_seq_max=3),
        Conditions(n_ctx=512, n_ubatch=16, flash_attention=True),
        Conditions(n_ctx=512, n_ubatch=16, flash_attention=True, type_k="q8_0", type_v="q8_0"),
        Conditions(n_ctx=512, n_ubatch=16, type_k="f32", type_v="f32"),
    ],
    ids=lambda c: f"{c.n_ubatch}-{c.n_seq_max}-{c.type_k}-{c.n_threads}{'-flash' if c.flash_attention else ''}",
)
def test_under_any_conditions_that_are_the_same_split_equals_whole(
    conditions: Conditions, tmp_path: Path, make_bench: Make
) -> None:
    model = write_random_model(tmp_path / "model.gguf", "llama", n_layer=6, width=128)
    bench = make_bench(model)
    prompts = random_prompts(bench.manifest.n_vocab, 30, 7, 12)
    expected = generate(bench.whole(conditions), prompts, conditions.n_ubatch)
    for cuts in ((2,), (1, 4)):
        assert_same(generate(bench.split(cuts, conditions), prompts, conditions.n_ubatch), expected)


def rows_of(tokens: Sequence[int], sequence: int, first: int = 0) -> list[tuple[int, int, int, bool]]:
    return [(token, first + i, sequence, i == len(tokens) - 1) for i, token in enumerate(tokens)]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_what_was_removed_leaves_no_trace(arch: str, tmp_path: Path, make_bench: Make) -> None:
    bench = make_bench(write_random_model(tmp_path / "model.gguf", arch, sliding_window=8))
    (prompt,) = random_prompts(bench.manifest.n_vocab, 32)
    (wrong,) = random_prompts(bench.manifest.n_vocab - 1, 16)
    records = []
    for cuts in (None, (5,), (7, 13)):
        fresh, other = (bench.whole() if cuts is None else bench.split(cuts) for _ in range(2))
        fresh.step(make_batch(rows_of(prompt[:16], 0)))
        expected = fresh.step(make_batch(rows_of(prompt[16:], 0, 16)))[15]
        other.step(make_batch(rows_of(prompt[:16], 0)))
        other.step(make_batch(rows_of(wrong, 0, 16)))
        other.remove(0, 16, -1)
        again = other.step(make_batch(rows_of(prompt[16:], 0, 16)))[15]
        assert np.array_equal(again, expected)
        other.remove(0, 0, -1)
        other.step(make_batch(rows_of(prompt[:16], 2)))
        assert np.array_equal(other.step(make_batch(rows_of(prompt[16:], 2, 16)))[15], expected)
        records.append(expected)
    assert_same(records[1:], [records[0]] * 2)


@pytest.mark.slow
def test_a_sequence_that_ends_and_one_that_begins_meanwhile_change_nothing(tmp_path: Path, make_bench: Make) -> None:
    bench = make_bench(write_random_model(tmp_path / "model.gguf", "qwen3"))
    one, two, three = random_prompts(bench.manifest.n_vocab, 9, 6, 8)
    records = []
    for chain in (bench.whole(), bench.split((9,)), bench.split((10, 20))):
        record = list(chain.step(make_batch([*rows_of(one, 0), *rows_of(two, 1)])).values())
        chain.remove(0, 0, -1)
        record += chain.step(make_batch([*rows_of(three, 3), (7, len(two), 1, True)])).values()
        record += chain.step(
            make_batch([*rows_of(one, 0), (8, len(two) + 1, 1, True), (9, len(three), 3, True)])
        ).values()
        records.append(record)
    for record in records[1:]:
        assert_same(record, records[0])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gemma3", "granite"])
def test_the_comparison_sees_a_wrong_input_scale(arch: str, tmp_path: Path, make_bench: Make) -> None:
    bench = make_bench(write_random_model(tmp_path / "model.gguf", arch))
    prompts = random_prompts(bench.manifest.n_vocab, 5)
    chain = bench.split((5,))
    assert chain.table is not None and chain.files[0].table is not None
    wrong = Chain(chain.engines, chain.files, Table.open(chain.files[0].table, chain.files[0].table_scale * 1.001))
    with pytest.raises(AssertionError, match="logits differ"):
        assert_same(generate(wrong, prompts), generate(bench.whole(), prompts))


@pytest.mark.slow
def test_a_stage_that_looks_for_a_tensor_that_is_not_there_gives_an_error_and_no_token(
    tmp_path: Path, make_bench: Make
) -> None:
    bench = make_bench(write_random_model(tmp_path / "model.gguf", "llama", n_layer=4))
    bench.output_name = "no_such_tensor"
    with pytest.raises(CaptureError, match="no tensor named no_such_tensor-1"):
        generate(bench.split((2,)), random_prompts(bench.manifest.n_vocab, 5))
