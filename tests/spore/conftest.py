"""spore: the shipped weights in llama.cpp, and the rooms of build/spore that made them (no PyTorch needed)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_cpp import Llama

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "build" / "spore"))

import score as scoring
from folder import MODEL
from gguf import GGUFReader
from tokens import Tokenizer


@pytest.fixture(scope="session")
def model() -> Iterator[Llama]:
    """spore.gguf in llama.cpp, one thread."""
    opened = scoring.open_model(MODEL)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def reader() -> GGUFReader:
    """spore.gguf as tensors and metadata."""
    return GGUFReader(MODEL)


@pytest.fixture(scope="session")
def tokenizer(reader: GGUFReader) -> Tokenizer:
    """The trainer's tokenizer with the table that the GGUF holds."""
    pieces = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    return Tokenizer(tuple(pieces), tuple((left, right) for left, right in (merge.split(" ") for merge in merges)))
