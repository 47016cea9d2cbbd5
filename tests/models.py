"""Random-weight models of every architecture that we split, small enough for a test: real shapes, tiny widths.

`write_random_model` is deterministic in its arguments. Behaviour that llama.cpp derives from a model's layer count
shows only at the real layer count, so `n_layer` defaults to one that such a model really has.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What sets one architecture's tensors apart; names follow llama.cpp's `load_arch_tensors`."""

    n_layer: int
    norm: str = "rms"  # "layer": LayerNorm with the key `layer_norm_epsilon`
    is_norm_biased: bool = False
    qkv_bias: bool = False
    qk_norm: str = ""  # "head": one vector of a head's width, "full": of all heads
    post_norm: str = ""  # "attention", "both"
    ffn: str = "gated"  # or "plain" (up and down with biases), "fused" (gate inside up)
    has_attn_norm: bool = True
    has_ffn_norm: bool = True
    fused_qkv: bool = False
    is_tied: bool = False  # by default; architectures whose loader wants or refuses output.weight
    experts: int = 0
    shared_expert: bool = False
    rope_part: float = 1.0
    kv_heads: int = 2
    window: int = 0
    has_rope_factors: bool = False
    is_gpt_oss: bool = False  # sinks, and biases everywhere


SHAPES: dict[str, Shape] = {
    "llama": Shape(n_layer=16),
    "qwen2": Shape(n_layer=24, qkv_bias=True),
    "qwen3": Shape(n_layer=28, qk_norm="head"),
    "gemma3": Shape(n_layer=26, qk_norm="head", post_norm="both", is_tied=True, window=512),
    "qwen2moe": Shape(n_layer=24, qkv_bias=True, experts=4, shared_expert=True),
    "qwen3moe": Shape(n_layer=48, qk_norm="head", experts=4),
    "olmoe": Shape(n_layer=16, qk_norm="full", experts=4, kv_heads=4),
    "internlm2": Shape(n_layer=32),
    "granite": Shape(n_layer=40, is_tied=True),
    "starcoder2": Shape(n_layer=30, norm="layer", is_norm_biased=True, qkv_bias=True, ffn="plain", is_tied=True),
    "phi3": Shape(n_layer=32, ffn="fused", fused_qkv=True, has_rope_factors=True),
    "stablelm": Shape(n_layer=24, norm="layer", is_norm_biased=True, rope_part=0.5),
    "command-r": Shape(n_layer=40, norm="layer", has_ffn_norm=False, is_tied=True),
    "mistral3": Shape(n_layer=26),
    "granitemoe": Shape(n_layer=24, is_tied=True, experts=4),
    "olmo2": Shape(n_layer=16, qk_norm="full", has_attn_norm=False, has_ffn_norm=False, post_norm="both", window=16),
    "gpt-oss": Shape(
        n_layer=24,
        qkv_bias=True,
        has_ffn_norm=False,
        post_norm="attention",
        experts=4,
        window=16,
        is_gpt_oss=True,
    ),
}
ARCHITECTURES = tuple(SHAPES)


@dataclass(frozen=True, slots=True)
class _Plan:
    arch: str
    shape: Shape
    n_layer: int
    width: int
    heads: int
    kv_heads: int
    ff: int
    vocab: int
    experts: int
    head_width: int
    quantisation: GGMLQuantizationType


class _Writer:
    """A GGUFWriter with a seeded generator and two verbs."""

    def __init__(self, path: Path, plan: _Plan, seed: int) -> None:
        self.file = GGUFWriter(path, plan.arch)
        self.plan = plan
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, *shape: int, scale: float | None = None) -> None:
        """Add random weights; the last of `shape` is the width that a row is multiplied over."""
        weights = self._random.standard_normal(shape, dtype=np.float32) * np.float32(scale or shape[-1] ** -0.5)
        kind = self.plan.quantisation
        self.file.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    def biases(self, name: str, *shape: int) -> None:
        """Add a random f32 matrix."""
        self.file.add_tensor(name, 0.1 * self._random.standard_normal(shape, dtype=np.float32))

    def vector(self, name: str, width: int, mean: float = 1.0) -> None:
        """Add a random f32 vector, as norms and biases are stored."""
        self.file.add_tensor(name, (mean + 0.1 * self._random.standard_normal(width)).astype(np.float32))


def write_random_model(
    path: Path | str,
    arch: str = "llama",
    *,
    n_layer: int | None = None,
    width: int = 64,
    heads: int = 4,
    kv_heads: int | None = None,
    ff: int = 96,
    vocab: int = 320,
    experts: int | None = None,
    sliding_window: int | None = None,
    tied: bool | None = None,
    quantisation: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
    template: str | None = TEMPLATE,
    control: tuple[str, ...] = (),
    rope_factors: bool | None = None,
    context: int = 2048,
    seed: int = 0,
    pooling: int | None = None,
    is_causal: bool = True,
) -> Path:
    """Write a GGUF of random weights; the defaults are those of `SHAPES`.

    `experts=4` on "llama" makes a mixture of experts. `sliding_window` is for architectures with windows.
    `control` are texts of further control tokens, in the place of words from token 261 on.
    `pooling` is llama.cpp's number.
    `rope_factors` adds tensors that belong to no layer and that every shard needs (llama, mistral3, granite, phi3).
    """
    shape = SHAPES[arch]
    kv = min(heads, shape.kv_heads if arch != "olmoe" else heads) if kv_heads is None else kv_heads
    plan = _Plan(
        arch=arch,
        shape=shape,
        n_layer=shape.n_layer if n_layer is None else n_layer,
        width=width,
        heads=heads,
        kv_heads=kv,
        ff=ff,
        vocab=vocab,
        experts=shape.experts if experts is None else experts,
        head_width=width // heads,
        quantisation=quantisation,
    )
    writer = _Writer(Path(path), plan, seed)
    _add_keys(writer, sliding_window, context)
    if pooling is not None:
        writer.file.add_pooling_type(gguf.PoolingType(pooling))
    if not is_causal:
        writer.file.add_causal_attention(False)
    _add_tokenizer(writer, template, control)
    writer.matrix("token_embd.weight", vocab, width, scale=1.0)
    has_factors = shape.has_rope_factors if rope_factors is None else rope_factors
    if has_factors and arch == "phi3":
        writer.vector("rope_factors_long.weight", plan.head_width // 2, 4.0)
        writer.vector("rope_factors_short.weight", plan.head_width // 2, 2.0)
    elif has_factors:
        writer.vector("rope_freqs.weight", plan.head_width // 2, 2.0)
    for layer in range(plan.n_layer):
        _add_attention(writer, f"blk.{layer}.")
        _add_feed_forward(writer, f"blk.{layer}.")
    _add_norm(writer, "output_norm")
    if not (shape.is_tied if tied is None else tied):
        writer.matrix("output.weight", vocab, width)
    writer.file.write_header_to_file()
    writer.file.write_kv_data_to_file()
    writer.file.write_tensors_to_file()
    writer.file.close()
    return Path(path)


def _add_keys(writer: _Writer, sliding_window: int | None, context: int) -> None:
    file, plan, shape = writer.file, writer.plan, writer.plan.shape
    file.add_name("random weights")  # not the architecture: llama.cpp looks for "phi3" in it
    file.add_context_length(context)
    file.add_embedding_length(plan.width)
    file.add_block_count(plan.n_layer)
    file.add_feed_forward_length(plan.ff)
    file.add_head_count(plan.heads)
    file.add_head_count_kv(plan.kv_heads)
    file.add_vocab_size(plan.vocab)
    file.add_rope_freq_base(10000.0)
    file.add_rope_dimension_count(int(plan.head_width * shape.rope_part))
    file.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    if shape.norm == "rms":
        file.add_layer_norm_rms_eps(1e-5)
    else:
        file.add_layer_norm_eps(1e-5)
    if plan.experts:
        file.add_expert_count(plan.experts)
        file.add_expert_used_count(2)
        if plan.arch not in ("llama", "granitemoe"):
            file.add_expert_feed_forward_length(plan.ff)
    if shape.shared_expert:
        file.add_expert_shared_feed_forward_length(plan.ff)
    if shape.window:
        file.add_key_length(plan.head_width)
        file.add_value_length(plan.head_width)
        file.add_rope_freq_base_swa(500.0)
        file.add_sliding_window(sliding_window or shape.window)
    if plan.arch == "olmo2":
        file.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        file.add_rope_scaling_factor(8.0)
        file.add_rope_scaling_orig_ctx_len(context // 8)
    if plan.arch == "mistral3":
        file.add_rope_scaling_orig_ctx_len(16)  # short, so that a test's prompt reaches the temperature
        file.add_float32("mistral3.attention.temperature_scale", 0.1)
    if plan.arch.startswith("granite"):
        file.add_logit_scale(8.0)
        file.add_residual_scale(0.22)
        file.add_embedding_scale(12.0)
        file.add_attention_scale(0.015625)
    if plan.arch == "command-r":
        file.add_logit_scale(0.0625)


def _add_tokenizer(writer: _Writer, template: str | None, control: tuple[str, ...]) -> None:
    file, vocab = writer.file, writer.plan.vocab
    special = [b"<unk>", b"<s>", b"</s>", b"<|im_start|>", b"<|im_end|>"]
    tokens = special + [b"<0x%02X>" % byte for byte in range(256)]
    kinds = [2, 3, 3, 3, 3] + [6] * 256
    words = [b"%s%d" % (b"\xe2\x96\x81w" if index % 2 else b"w", index) for index in range(vocab - len(tokens))]
    assert len(tokens) + len(words) == vocab, "the vocabulary must hold at least 261 tokens"
    words[: len(control)] = [text.encode() for text in control]
    file.add_tokenizer_model("llama")
    file.add_token_list(tokens + words)
    file.add_token_types(kinds + [3] * len(control) + [1] * (len(words) - len(control)))
    file.add_token_scores([-float(index) for index in range(vocab)])
    file.add_bos_token_id(1)
    file.add_eos_token_id(4)
    file.add_unk_token_id(0)
    file.add_add_bos_token(True)
    if template is not None:
        file.add_chat_template(template)


def _add_norm(writer: _Writer, name: str) -> None:
    writer.vector(f"{name}.weight", writer.plan.width)
    if writer.plan.shape.is_norm_biased:
        writer.vector(f"{name}.bias", writer.plan.width, 0.0)


def _add_attention(writer: _Writer, prefix: str) -> None:
    plan, shape = writer.plan, writer.plan.shape
    full, kv = plan.heads * plan.head_width, plan.kv_heads * plan.head_width
    if shape.has_attn_norm:
        _add_norm(writer, prefix + "attn_norm")
    if shape.fused_qkv:
        writer.matrix(prefix + "attn_qkv.weight", full + 2 * kv, plan.width)
    else:
        for part, height in (("q", full), ("k", kv), ("v", kv)):
            writer.matrix(f"{prefix}attn_{part}.weight", height, plan.width)
            if shape.qkv_bias:
                writer.vector(f"{prefix}attn_{part}.bias", height, 0.0)
    writer.matrix(prefix + "attn_output.weight", plan.width, full)
    if shape.ffn == "plain" or shape.is_gpt_oss:
        writer.vector(prefix + "attn_output.bias", plan.width, 0.0)
    if shape.is_gpt_oss:
        writer.vector(prefix + "attn_sinks.weight", plan.heads, 0.0)
    if shape.qk_norm:
        widths = (plan.head_width, plan.head_width) if shape.qk_norm == "head" else (full, kv)
        writer.vector(prefix + "attn_q_norm.weight", widths[0])
        writer.vector(prefix + "attn_k_norm.weight", widths[1])
    if shape.post_norm:
        writer.vector(prefix + "post_attention_norm.weight", plan.width)


def _add_feed_forward(writer: _Writer, prefix: str) -> None:
    plan, shape = writer.plan, writer.plan.shape
    if shape.has_ffn_norm:
        _add_norm(writer, prefix + "ffn_norm")
    if plan.experts:
        writer.matrix(prefix + "ffn_gate_inp.weight", plan.experts, plan.width)
        writer.matrix(prefix + "ffn_gate_exps.weight", plan.experts, plan.ff, plan.width)
        writer.matrix(prefix + "ffn_up_exps.weight", plan.experts, plan.ff, plan.width)
        writer.matrix(prefix + "ffn_down_exps.weight", plan.experts, plan.width, plan.ff)
    if shape.is_gpt_oss:
        writer.vector(prefix + "ffn_gate_inp.bias", plan.experts, 0.0)
        writer.biases(prefix + "ffn_gate_exps.bias", plan.experts, plan.ff)
        writer.biases(prefix + "ffn_up_exps.bias", plan.experts, plan.ff)
        writer.biases(prefix + "ffn_down_exps.bias", plan.experts, plan.width)
    if shape.shared_expert:
        writer.vector(prefix + "ffn_gate_inp_shexp.weight", plan.width, 0.0)
    if shape.shared_expert or not plan.experts:
        end = "_shexp" if shape.shared_expert else ""
        if shape.ffn == "gated":
            writer.matrix(f"{prefix}ffn_gate{end}.weight", plan.ff, plan.width)
        height = 2 * plan.ff if shape.ffn == "fused" else plan.ff
        writer.matrix(f"{prefix}ffn_up{end}.weight", height, plan.width)
        writer.matrix(f"{prefix}ffn_down{end}.weight", plan.width, plan.ff)
    if shape.ffn == "plain":
        writer.vector(prefix + "ffn_up.bias", plan.ff, 0.0)
        writer.vector(prefix + "ffn_down.bias", plan.width, 0.0)
    if shape.post_norm == "both":
        writer.vector(prefix + "post_ffw_norm.weight", plan.width)
