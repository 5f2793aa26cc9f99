#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/models-more: tiny random models of architectures and settings that the shared fixtures lack, with
the outputs of transformers (fp32, eager attention, CPU).

    pip install torch==2.14.0 transformers==5.17.0 safetensors==0.8.0
    tools/make_model_goldens.py tests/golden/models-more           # models and outputs
    tools/make_model_goldens.py --trees tests/golden/models ...    # only modules.txt (module names and classes)

golden.safetensors holds the inputs and `logits` (or start_logits/end_logits, or hidden_states for a bare encoder);
golden.json the greedy continuation of row 0 for causal models.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
import transformers as tf
from safetensors.torch import save_file

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=128, max_position_embeddings=64)
ENCODER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=128,
               max_position_embeddings=48)


def small(**more):
    return {**SMALL, **more}


def rope(kind, **more):
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


# name -> (class, config, options)
MODELS = {
    "gemma2": (tf.Gemma2ForCausalLM, tf.Gemma2Config(**small(
        num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20, sliding_window=5, attn_logit_softcapping=3.0,
        final_logit_softcapping=2.0)), {}),
    "olmo2": (tf.Olmo2ForCausalLM, tf.Olmo2Config(**small()), {}),
    "stablelm": (tf.StableLmForCausalLM, tf.StableLmConfig(**small(
        qk_layernorm=True, use_qkv_bias=True, partial_rotary_factor=0.5)), {}),
    "stablelm-parallel": (tf.StableLmForCausalLM, tf.StableLmConfig(**small(
        use_parallel_residual=True, partial_rotary_factor=0.25)), {}),
    "gpt_neox-serial": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(
        **{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, use_parallel_residual=False,
        attention_bias=False, hidden_act="gelu_fast"), {}),
    "qwen2-window": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**small(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=1)), {}),
    "qwen2_moe": (tf.Qwen2MoeForCausalLM, tf.Qwen2MoeConfig(**small(
        num_hidden_layers=3, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=20,
        shared_expert_intermediate_size=24, decoder_sparse_step=2)), {}),
    "qwen3_moe-raw": (tf.Qwen3MoeForCausalLM, tf.Qwen3MoeConfig(**small(
        head_dim=8, num_experts=4, num_experts_per_tok=3, moe_intermediate_size=20, norm_topk_prob=False)), {}),
    "llama-linear": (tf.LlamaForCausalLM, tf.LlamaConfig(**small(rope_parameters=rope("linear", factor=2.5))), {}),
    "llama-dynamic": (tf.LlamaForCausalLM, tf.LlamaConfig(**small(
        max_position_embeddings=12, rope_parameters=rope("dynamic", factor=3.0))), {}),
    "llama-yarn": (tf.LlamaForCausalLM, tf.LlamaConfig(**small(rope_parameters=rope(
        "yarn", factor=4.0, original_max_position_embeddings=16))), {}),
    "llama-yarn-mscale": (tf.LlamaForCausalLM, tf.LlamaConfig(**small(rope_parameters=rope(
        "yarn", factor=8.0, original_max_position_embeddings=16, mscale=1.2, mscale_all_dim=0.7, beta_fast=16.0,
        beta_slow=2.0, truncate=False))), {}),
    "phi3-longrope": (tf.Phi3ForCausalLM, tf.Phi3Config(**small(
        original_max_position_embeddings=16, pad_token_id=0, rope_parameters=rope(
            "longrope", partial_rotary_factor=0.5, short_factor=[1.0, 1.3], long_factor=[2.0, 4.5]))), {}),
    "phi3-shortrope": (tf.Phi3ForCausalLM, tf.Phi3Config(**small(
        original_max_position_embeddings=32, pad_token_id=0, sliding_window=9, rope_parameters=rope(
            "longrope", short_factor=[1.0, 1.3, 1.7, 2.0], long_factor=[2.0, 4.5, 5.0, 6.0]))), {}),
    "opt-postnorm": (tf.OPTForCausalLM, tf.OPTConfig(
        hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=128,
        max_position_embeddings=64, word_embed_proj_dim=20, do_layer_norm_before=False), {"left_pad": 5}),
    "gemma3-wrapper": (tf.Gemma3ForConditionalGeneration, tf.Gemma3Config(
        text_config=dict(**small(num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=16, sliding_window=6,
                                 layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
        vision_config=dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                           image_size=28, patch_size=14)), {}),
    "llama-seqcls": (tf.LlamaForSequenceClassification, tf.LlamaConfig(**small(num_labels=3, pad_token_id=0)),
                     {"right_pad": 6}),
    "llama-padded": (tf.LlamaForCausalLM, tf.LlamaConfig(**small(tie_word_embeddings=True)), {"right_pad": 6}),
    "bert-bare": (tf.BertModel, tf.BertConfig(**ENCODER), {"right_pad": 5, "types": True}),
    "roberta-qa": (tf.RobertaForQuestionAnswering, tf.RobertaConfig(**ENCODER, type_vocab_size=1),
                   {"right_pad": 5}),
    "roberta-seqcls": (tf.RobertaForSequenceClassification, tf.RobertaConfig(**ENCODER, type_vocab_size=1,
                                                                             num_labels=4), {"right_pad": 5}),
    "distilbert-seqcls": (tf.DistilBertForSequenceClassification, tf.DistilBertConfig(
        dim=32, hidden_dim=48, n_layers=2, n_heads=4, vocab_size=128, max_position_embeddings=48, num_labels=3),
        {"right_pad": 5}),
}


def fill(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "vision" in name or "projector" in name:
            parameter.data.zero_()
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.dim() == 1 and "bias" not in name
        if is_norm:
            offset = 0.0 if "gemma" in type(model).__name__.lower() else 1.0
            parameter.data = offset + 0.2 * noise
        else:
            parameter.data = noise * (0.1 if parameter.dim() == 1 else 0.3 if "embed" in name else 0.15)


def inputs_of(options, vocab, pad, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocab, (2, 20), generator=generator)
    mask = torch.ones_like(ids)
    if "right_pad" in options:
        mask[1, -options["right_pad"]:] = 0
    if "left_pad" in options:
        mask[1, :options["left_pad"]] = 0
    ids[mask == 0] = pad
    inputs = {"input_ids": ids}
    if mask.min() == 0:
        inputs["attention_mask"] = mask
    if options.get("types"):
        inputs["token_type_ids"] = (torch.arange(20)[None] >= 9).long().repeat(2, 1)
    return inputs


def greedy(model, ids, count=12):
    tokens = ids[:1]
    for _ in range(count):
        logits = model(input_ids=tokens).logits[:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    return tokens[0, ids.shape[1]:].tolist()


def make(name, folder, seed):
    cls, config, options = MODELS[name]
    config._attn_implementation = "eager"
    model = cls(config).eval().float()
    fill(model, seed)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)  # half the size; the outputs are made from these rounded weights
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = cls.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    text = config.get_text_config()
    inputs = inputs_of(options, text.vocab_size, text.pad_token_id or 0, seed)
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
        tensors = dict(inputs)
        if hasattr(out, "start_logits"):
            tensors |= {"start_logits": out.start_logits, "end_logits": out.end_logits}
        elif hasattr(out, "logits"):
            tensors["logits"] = out.logits
        else:
            tensors["hidden_states"] = out.last_hidden_state
        record = {"transformers": tf.__version__, "torch": torch.__version__, "seed": seed}
        # Dynamic kinds of rope rotate cached keys by older frequencies, so a continuation depends on the use of a cache.
        if "CausalLM" in cls.__name__ and name not in ("llama-dynamic", "phi3-longrope", "phi3-shortrope"):
            record["greedy_continuation"] = greedy(model, inputs["input_ids"])
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(record, indent=1) + "\n")


def write_tree(folder):
    """modules.txt: `name<TAB>class` of every module. Stacked experts are left out: compression tools unstack them."""
    config = tf.AutoConfig.from_pretrained(folder)
    cls = getattr(tf, json.loads((folder / "config.json").read_text())["architectures"][0])
    with torch.device("meta"):
        model = cls(config)
    lines = []
    for name, module in model.named_modules():
        if ".experts" in name or "vision_tower" in name or "multi_modal_projector" in name:
            continue
        class_name = type(module).__name__
        lines.append(f"{name}\t{'Linear' if class_name.endswith('TopKRouter') else class_name}")
    (folder / "modules.txt").write_text("\n".join(lines) + "\n")


def main():
    arguments = sys.argv[1:]
    if arguments and arguments[0] == "--trees":
        for root in arguments[1:]:
            for config in sorted(Path(root).glob("*/config.json")):
                write_tree(config.parent)
        return
    root = Path(arguments[0])
    for seed, name in enumerate(MODELS, start=1):
        if len(arguments) > 1 and name not in arguments[1:]:
            continue
        make(name, root / name, seed)
        write_tree(root / name)
        print(name)


if __name__ == "__main__":
    main()
