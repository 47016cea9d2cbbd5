"""Write the trained network as a GGUF file of the llama architecture, matrices in Q8_0.

python build/spore/export.py [--checkpoint FILE] [--file FILE]
"""

import argparse
from pathlib import Path

import gguf
import torch
from folder import MODEL, OUT, TOKENIZER
from gguf import GGMLQuantizationType, LlamaFileType, TokenType
from network import Shape
from text import TEMPLATE
from tokens import CONTROL, MARKS, PRE_TOKENIZER, Tokenizer, load

VERSION = "1"
DESCRIPTION = (
    "A very small model that ships with mycoSwarm so that it shows its whole job offline. "
    "It greets, counts, does small sums, answers yes or no about a sentence and calls four tools. "
    "It knows nothing else."
)


def write(file: Path, shape: Shape, weights: dict[str, torch.Tensor], tokenizer: Tokenizer) -> None:
    """Write the GGUF: facts, tokenizer, chat template, and `weights` under the names that llama.cpp wants."""
    half = file.with_suffix(".half")
    writer = gguf.GGUFWriter(half, "llama")
    _add_facts(writer, shape)
    _add_tokenizer(writer, tokenizer)
    for name, weight in weights.items():
        values = weight.float().numpy()
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            quantized = gguf.quants.quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, quantized, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    half.replace(file)


def _add_facts(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_type("model")
    writer.add_name("spore")
    writer.add_version(VERSION)
    writer.add_description(DESCRIPTION)
    writer.add_license("Apache-2.0")
    writer.add_languages(["en"])
    writer.add_tags(["text-generation", "tool-use"])
    writer.add_size_label("3.5M")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    kinds = {**dict.fromkeys(CONTROL, TokenType.CONTROL), **dict.fromkeys(MARKS, TokenType.USER_DEFINED)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(list(tokenizer.pieces))
    writer.add_token_types([kinds.get(piece, TokenType.NORMAL) for piece in tokenizer.pieces])
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_pad_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_eos_token_id(tokenizer.ids["<|im_end|>"])
    writer.add_eot_token_id(tokenizer.ids["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def main() -> None:
    """Export the latest checkpoint."""
    parser = argparse.ArgumentParser(description="Write spore.gguf from a checkpoint.")
    parser.add_argument("--checkpoint", type=Path, default=OUT / "checkpoint.pt")
    parser.add_argument("--file", type=Path, default=MODEL)
    options = parser.parse_args()
    held = torch.load(options.checkpoint)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write(options.file, Shape(**held["shape"]), held["network"], load(TOKENIZER))


if __name__ == "__main__":
    main()
