"""The first stage's input: rows of the token table, looked up outside llama.cpp, so that only the head has a
vocabulary."""

from pathlib import Path
from typing import Self

import gguf
import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import ModelFileError, ProtocolError, StorageError
from mycoswarm.catalog.architecture import TABLE_TENSOR
from mycoswarm.catalog.container import TensorFacts, read_container

KEPT_ROWS = 1024  # dequantised; 32 MB at a width of 8192. A row of Q4_K costs 130 µs, and text repeats its tokens


class Table:
    """A memory-mapped token table. gguf's dequantiser gives the same float32 numbers as ggml's, bit for bit."""

    def __init__(self, rows: NDArray[np.uint8], tensor: TensorFacts, scale: float) -> None:
        self._rows = rows.view(np.ndarray)  # a memmap's own indexing is slower
        self._kind = tensor.kind
        self._scale = np.float32(scale)
        self._kept: dict[int, NDArray[np.float32]] = {}
        self.n_embd, self.n_vocab = tensor.shape

    @classmethod
    def open(cls, path: Path, scale: float = 1.0) -> Self:
        """Map the table in a GGUF file: the piece "table", or a whole model. `scale` as `ShardFiles.table_scale` says.

        Raises:
            ModelFileError: no sound GGUF file, or none with a token table.
            StorageError: the file cannot be read.
        """
        tensor = next((tensor for tensor in read_container(path).tensors if tensor.name == TABLE_TENSOR), None)
        if tensor is None or len(tensor.shape) != 2:
            raise ModelFileError(f"{path.name} holds no token table")
        row_bytes = tensor.bytes // tensor.shape[1]
        try:
            rows = np.memmap(path, np.uint8, "r", tensor.offset, (tensor.shape[1], row_bytes))
        except OSError as exc:
            raise StorageError(f"{path} cannot be mapped: {exc.strerror}") from exc
        return cls(rows, tensor, scale)

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Embeddings of `tokens` int32 [n] as float32 [n, n_embd], as the first layer wants them.

        Raises:
            ProtocolError: a token outside the vocabulary.
        """
        if len(tokens) == 1:
            return self._row(int(tokens[0]))
        if tokens.size and not (int(tokens.min()) >= 0 and int(tokens.max()) < self.n_vocab):
            raise _outside(self.n_vocab)
        return self._dequantized(tokens)

    def _row(self, token: int) -> NDArray[np.float32]:
        """One row, [1, n_embd], read-only: decoding asks for these, and for few tokens again and again."""
        kept = self._kept.get(token)
        if kept is None:
            if not 0 <= token < self.n_vocab:
                raise _outside(self.n_vocab)
            kept = self._dequantized(np.array([token], np.int32))
            kept.flags.writeable = False
            if len(self._kept) >= KEPT_ROWS:
                del self._kept[next(iter(self._kept))]
            self._kept[token] = kept
        return kept

    def _dequantized(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        embeddings = gguf.quants.dequantize(self._rows[tokens], self._kind)
        result = np.ascontiguousarray(embeddings, np.float32).reshape(len(tokens), self.n_embd)
        return result if self._scale == 1 else result * self._scale


def _outside(n_vocab: int) -> ProtocolError:
    return ProtocolError(f"a token lies outside the vocabulary of {n_vocab}")
