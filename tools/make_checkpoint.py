#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Llama-shaped Hugging Face checkpoint with seeded random weights, block by block, for memory and speed tests.

    tools/make_checkpoint.py OUT --shape 7b            # 13.5 GB of bf16
    tools/make_checkpoint.py OUT --shape 7b --blocks 2 # the first two blocks of it
    tools/make_checkpoint.py OUT --shape 7b --sparse   # same sizes, holes instead of data (all weights zero)

Standard library only; needs no tensor library.
"""
import argparse
import json
import pathlib
import random
import struct

SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=172, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=512),
    "0.7b": dict(hidden_size=1536, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=12,
                 num_key_value_heads=12, vocab_size=32000),
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=32, vocab_size=32000),
}


def tensors_of(shape):
    h, f, v = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    kv = h // shape["num_attention_heads"] * shape["num_key_value_heads"]
    yield "model.embed_tokens.weight", (v, h)
    for layer in range(shape["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        yield p + "input_layernorm.weight", (h,)
        yield p + "self_attn.q_proj.weight", (h, h)
        yield p + "self_attn.k_proj.weight", (kv, h)
        yield p + "self_attn.v_proj.weight", (kv, h)
        yield p + "self_attn.o_proj.weight", (h, h)
        yield p + "post_attention_layernorm.weight", (h,)
        yield p + "mlp.gate_proj.weight", (f, h)
        yield p + "mlp.up_proj.weight", (f, h)
        yield p + "mlp.down_proj.weight", (h, f)
    yield "model.norm.weight", (h,)
    yield "lm_head.weight", (v, h)


def bf16_noise(count, rng):
    """A 1 MB pool of bf16 values in (-0.04, 0.04), repeated from a random place: fast, and no two rows are equal."""
    pool = bytearray()
    for _ in range(min(count, 1 << 19)):
        bits = struct.unpack("<I", struct.pack("<f", rng.uniform(-0.04, 0.04)))[0]
        pool += struct.pack("<H", bits >> 16)
    while count > 0:
        start = rng.randrange(len(pool) // 2) * 2
        part = bytes(pool[start:start + 2 * count])
        yield part
        count -= len(part) // 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shape = dict(SHAPES[options.shape])
    if options.blocks:
        shape["num_hidden_layers"] = options.blocks
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", torch_dtype="bfloat16", hidden_act="silu",
                  max_position_embeddings=2048, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
                  bos_token_id=1, eos_token_id=2, **shape)
    options.out.mkdir(parents=True)
    (options.out / "config.json").write_text(json.dumps(config, indent=2))

    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, extents in tensors_of(shape):
        count = 1
        for extent in extents:
            count *= extent
        header[name] = {"dtype": "BF16", "shape": list(extents), "data_offsets": [offset, offset + 2 * count]}
        offset += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = random.Random(options.seed)
    with open(options.out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        if options.sparse:
            file.truncate(8 + len(text) + offset)
            return
        for name, extents in tensors_of(shape):
            if len(extents) == 1:
                file.write(struct.pack("<H", 0x3F80) * extents[0])
                continue
            for part in bf16_noise(extents[0] * extents[1], rng):
                file.write(part)


if __name__ == "__main__":
    main()
