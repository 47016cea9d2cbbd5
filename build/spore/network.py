"""spore's network: a llama decoder, small enough to train on two cores.

The names and the arithmetic are those of llama.cpp's "llama" architecture: RMS norm before each half, grouped-query
attention, rotary positions on neighbouring pairs (2i, 2i+1), SwiGLU, and an output matrix of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network; every row length is a multiple of 32, the block of Q8_0."""

    vocabulary: int = 1024
    layers: int = 8
    width: int = 192
    heads: int = 6
    kv_heads: int = 2
    hidden: int = 512
    context: int = 2048
    rope_base: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Numbers per attention head."""
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class Pieces:
    """How a flat run of tokens hangs together: each piece sees itself and one earlier piece, its start.

    A system block is a piece without a start; the dialogues that share it are pieces that start with it, and do not see
    one another. So the block is computed once, and no attention is spent on what is masked anyway. `masks[n]`, added to
    the attention scores, is (length, length of the start + length).
    """

    lengths: list[int]
    starts: list[int | None]
    masks: list[Tensor]


def pieces(lengths: list[int], starts: list[int | None]) -> Pieces:
    """Pieces with their masks."""
    masks = []
    for length, start in zip(lengths, starts, strict=True):
        before = torch.zeros(length, 0 if start is None else lengths[start])
        masks.append(torch.cat((before, torch.full((length, length), float("-inf")).triu(1)), 1))
    return Pieces(lengths, starts, masks)


class Block(nn.Module):
    """One layer: attention, then the gated feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.attn_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_v = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, layout: Pieces) -> Tensor:
        """(tokens, width) to the same."""
        normed = self.attn_norm(x)
        q = rotate(self.attn_q(normed).view(len(x), -1, self.shape.head_width), cosine, sine)
        k = rotate(self.attn_k(normed).view(len(x), -1, self.shape.head_width), cosine, sine)
        v = self.attn_v(normed).view(len(x), -1, self.shape.head_width)
        x = x + self.attn_output(attend(q.to(v.dtype), k.to(v.dtype), v, layout).flatten(1))
        normed = self.ffn_norm(x)
        fed: Tensor = self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))
        return x + fed


class Network(nn.Module):
    """Token ids to hidden states; `output` turns the ones that matter into logits."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                spread = 0.02 if "token_embd" in name else weight.shape[1] ** -0.5
                deep = "attn_output" in name or "ffn_down" in name
                nn.init.normal_(weight, std=spread / (2 * shape.layers) ** 0.5 if deep else spread)

    def forward(self, ids: Tensor, positions: Tensor, layout: Pieces) -> Tensor:
        """(tokens) ids and positions, and how they hang together, to normed hidden states (tokens, width)."""
        cosine, sine = angles(self.shape, positions)
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cosine, sine, layout)
        normed: Tensor = self.output_norm(x)
        return normed


def angles(shape: Shape, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for each position, (tokens, 1, head_width / 2)."""
    steps = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    turned = positions[:, None, None].float() * shape.rope_base**-steps
    return turned.cos(), turned.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions on neighbouring pairs, llama.cpp's "norm" rope."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), -1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Pieces) -> Tensor:
    """Attention of each piece to its start and to itself.

    `q` is (tokens, heads, head_width), `k` and `v` (tokens, kv_heads, head_width); the result is shaped like `q`.
    """
    keys, values = torch.split(k, layout.lengths), torch.split(v, layout.lengths)
    kv_heads, head_width = k.shape[1:]
    mixed = []
    for asks, key, value, start, mask in zip(
        torch.split(q, layout.lengths), keys, values, layout.starts, layout.masks, strict=True
    ):
        if start is not None:
            key, value = torch.cat((keys[start], key)), torch.cat((values[start], value))
        grouped = asks.view(len(asks), kv_heads, -1, head_width).permute(1, 2, 0, 3)
        scores = grouped.flatten(1, 2) @ key.permute(1, 2, 0) * head_width**-0.5
        weights = (scores.view(kv_heads, -1, len(asks), len(key)) + mask).softmax(-1)
        made = weights.flatten(1, 2).to(value.dtype) @ value.transpose(0, 1)
        mixed.append(made.view(kv_heads, -1, len(asks), head_width).permute(2, 0, 1, 3).flatten(1, 2))
    return torch.cat(mixed)
