"""Random-weight encoders (bert, nomic-bert), small enough for a test, and what bert computes, once more in numpy."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

WIDTH, HEADS, FF, LAYERS, CONTEXT = 32, 4, 48, 3, 64
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# As the converter writes them: a word's first piece has the mark in front, the others none.
TOKENS = [*SPECIAL, *("\u2581" + letter for letter in LETTERS), *LETTERS, "\u2581the", "\u2581cat", "\u2581dog"]
CLS, SEP = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
EPSILON = 1e-12

Weights = dict[str, NDArray[np.float32]]


def write_encoder(
    path: Path,
    arch: str = "bert",
    *,
    pooling: int | None = gguf.PoolingType.MEAN,
    context: int = CONTEXT,
    seed: int = 0,
    fill: float | None = None,
) -> Weights:
    """Write a GGUF and give its weights. `fill`: of every output norm, instead of random weights."""
    file, random = GGUFWriter(path, arch), np.random.default_rng(seed)
    weights: Weights = {}

    def add(name: str, *shape: int, mean: float = 0.0, scale: float = 0.2) -> None:
        values = (mean + scale * random.standard_normal(shape)).astype(np.float32)
        if fill is not None and name.endswith("layer_output_norm.weight"):
            values[:] = fill
        weights[name] = values
        file.add_tensor(name, values)

    _add_keys(file, arch, pooling, context)
    add("token_embd.weight", len(TOKENS), WIDTH, scale=1.0)
    add("token_types.weight", 2, WIDTH)
    if arch == "bert":
        add("position_embd.weight", context, WIDTH, scale=0.5)
    for norm in ("token_embd_norm", *(f"blk.{n}.{each}_norm" for n in range(LAYERS) for each in _NORMS)):
        add(f"{norm}.weight", WIDTH, mean=1.0, scale=0.1)
        add(f"{norm}.bias", WIDTH, scale=0.1)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for part in ("q", "k", "v", "output") if arch == "bert" else ("output",):
            add(f"{prefix}attn_{part}.weight", WIDTH, WIDTH)
            if arch == "bert":
                add(f"{prefix}attn_{part}.bias", WIDTH)
        if arch != "bert":
            add(f"{prefix}attn_qkv.weight", 3 * WIDTH, WIDTH)
            add(f"{prefix}ffn_gate.weight", FF, WIDTH)
        add(f"{prefix}ffn_up.weight", FF, WIDTH)
        add(f"{prefix}ffn_down.weight", WIDTH, FF)
        if arch == "bert":
            add(f"{prefix}ffn_up.bias", FF)
            add(f"{prefix}ffn_down.bias", WIDTH)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return weights


_NORMS = ("attn_output", "layer_output")


def _add_keys(file: GGUFWriter, arch: str, pooling: int | None, context: int) -> None:
    file.add_name(f"random {arch}")
    file.add_context_length(context)
    file.add_embedding_length(WIDTH)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(FF)
    file.add_head_count(HEADS)
    file.add_layer_norm_eps(EPSILON)
    file.add_causal_attention(False)
    file.add_file_type(gguf.LlamaFileType.ALL_F32)
    if pooling is not None:
        file.add_pooling_type(gguf.PoolingType(pooling))
    if arch != "bert":
        file.add_rope_freq_base(1000.0)
    file.add_tokenizer_model("bert")
    file.add_token_type_count(2)
    file.add_token_list(TOKENS)
    file.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    file.add_unk_token_id(SPECIAL.index("[UNK]"))
    file.add_bos_token_id(CLS)
    file.add_sep_token_id(SEP)
    file.add_pad_token_id(0)
    file.add_mask_token_id(SPECIAL.index("[MASK]"))


def tokens_of(text: str) -> list[int]:
    """The token ids of words that are whole tokens, framed."""
    return [CLS, *(TOKENS.index("\u2581" + word) for word in text.split()), SEP]


def bert(weights: Weights, tokens: list[int], pooling: int) -> NDArray[Any]:
    """The vector that a bert of these weights gives for these tokens, in float64, of length 1."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    count = len(tokens)
    state = w["token_embd.weight"][tokens] + w["token_types.weight"][0] + w["position_embd.weight"][:count]
    state = _norm(state, w, "token_embd_norm")
    for layer in range(LAYERS):
        p = f"blk.{layer}."
        q, k, v = (
            (state @ w[f"{p}attn_{part}.weight"].T + w[f"{p}attn_{part}.bias"])
            .reshape(count, HEADS, WIDTH // HEADS)
            .transpose(1, 0, 2)
            for part in "qkv"
        )
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH // HEADS))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(count, WIDTH)
        mixed = mixed @ w[f"{p}attn_output.weight"].T + w[f"{p}attn_output.bias"]
        state = _norm(state + mixed, w, f"{p}attn_output_norm")
        up = state @ w[f"{p}ffn_up.weight"].T + w[f"{p}ffn_up.bias"]
        up = up * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        state = _norm(state + up @ w[f"{p}ffn_down.weight"].T + w[f"{p}ffn_down.bias"], w, f"{p}layer_output_norm")
    pooled = {1: state.mean(0), 2: state[0], 3: state[-1]}[pooling]
    return np.asarray(pooled / np.linalg.norm(pooled))


def _norm(state: NDArray[Any], w: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    centred = state - state.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])
