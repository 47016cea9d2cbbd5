"""A model of random weights, for measuring: it says nothing of sense, and takes as long as a real one of its shape."""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize

Q8 = GGMLQuantizationType.Q8_0
HEAD_WIDTH = 64


def write_sample(
    path: Path, *, n_layer: int, n_embd: int, is_light: bool = False, n_vocab: int = 1024, n_ctx: int = 2048
) -> None:
    """Write a llama-architecture GGUF, Q8_0, with `n_layer` layers of width `n_embd` (a multiple of 64).

    The vocabulary is the 256 bytes and filler. A layer has heads for its whole width, half as many for keys and
    values, and a feed-forward of three widths; a light one has two heads and a feed-forward of 256, whatever its width.
    """
    rng = np.random.default_rng(0)
    heads, inner = (2, 256) if is_light else (n_embd // HEAD_WIDTH, 3 * n_embd)
    writer = GGUFWriter(path, "llama")
    writer.add_name("random weights")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(max(1, heads // 2))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_vocab_size(n_vocab)
    _add_vocabulary(writer, n_vocab)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)
        writer.add_tensor(name, quantize(values, Q8), raw_dtype=Q8)

    def vector(name: str) -> None:
        writer.add_tensor(name, np.ones(n_embd, np.float32))

    kv_width = max(1, heads // 2) * HEAD_WIDTH
    matrix("token_embd.weight", n_vocab, n_embd)
    vector("output_norm.weight")
    matrix("output.weight", n_vocab, n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}."
        vector(block + "attn_norm.weight")
        vector(block + "ffn_norm.weight")
        matrix(block + "attn_q.weight", heads * HEAD_WIDTH, n_embd)
        matrix(block + "attn_k.weight", kv_width, n_embd)
        matrix(block + "attn_v.weight", kv_width, n_embd)
        matrix(block + "attn_output.weight", n_embd, heads * HEAD_WIDTH)
        matrix(block + "ffn_gate.weight", inner, n_embd)
        matrix(block + "ffn_up.weight", inner, n_embd)
        matrix(block + "ffn_down.weight", n_embd, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: GGUFWriter, n_vocab: int) -> None:
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    tokens += [f"w{number}".encode() for number in range(n_vocab - len(tokens))]
    kinds += [TokenType.NORMAL] * (n_vocab - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(n_vocab)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
