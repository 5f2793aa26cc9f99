#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_tokenizer_goldens.py TOKENIZERS GOLDENS OUT [NAME...]

Makes tests/golden/tokenizers: published tokenizer files, reduced to what the golden strings need, and the
strings with their ids, all as .zst files (the zstd program does the packing).

TOKENIZERS holds one folder a tokenizer, llama.cpp-vocabs/ (ggml-vocab-*.gguf with .inp and .out) and
golden-swift-transformers/; GOLDENS holds <name>.jsonl as tests/golden/tokenizers/README.md describes.

A token is kept if it can occur in a golden string however normalized; any token that a merge makes on the way
is a part of such a string too, so the ids of the strings are those of the full file. Other tokens become
placeholders of the same id, which no string contains (in line files a run of them is one line, see with_runs).
"""
import base64, json, pathlib, struct, subprocess, sys, unicodedata

tokenizers, goldens, out = map(pathlib.Path, sys.argv[1:4])
SWIFT = {"bert-base-uncased": ["bert-base-uncased", "google-bert/bert-base-uncased"], "gpt2": ["distilgpt2"],
         "falcon": ["tiiuae/falcon-7b"], "t5-small": ["t5-base"], "llama3": ["pcuenq/Llama-3.2-1B-Instruct-tokenizer"]}
SWIFT_TEXT = {"bert-base-uncased": "bert_uncased_encoded", "gpt2": "gpt2_encoded_tokens", "falcon": "falcon_encoded",
              "t5-small": "t5_base_encoded", "llama3": "llama_3.2_encoded", "llama2": "llama_encoded"}
LLAMA_CPP = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "llama2": "llama-spm",
             "bert-base-uncased": "bert-bge", "phi-3-mini": "phi-3"}

BYTES = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
ALPHABET = {b: chr(b) for b in BYTES}
for b in range(256):
    ALPHABET.setdefault(b, chr(256 + len(ALPHABET) - len(BYTES)))
BYTE_OF = {c: b for b, c in ALPHABET.items()}


def forms(text):
    text = text.encode("utf-8", "replace").decode("utf-8", "replace")
    plain = [text] + [unicodedata.normalize(f, text) for f in ("NFC", "NFD", "NFKC", "NFKD")]
    plain += [t.lower() for t in plain]
    plain += ["".join(c for c in t if unicodedata.category(c) != "Mn") for t in plain]
    plain = sorted(set(plain))
    plain += ["".join(" " if c.isspace() else c for c in t) for t in plain]
    plain += [" ".join(t.split()) for t in plain]
    plain += [t.replace(" ", "\u2581") for t in plain]
    return {"\u2581" + t + "\u2581" for t in plain} | {" " + t + " " for t in plain}


def blob(texts):
    return b"\xff".join(sorted({f.encode() for t in texts for f in forms(t)}))


class Keep:
    """Whether a token is needed; `byte_level`: tokens are written in GPT-2's alphabet."""
    def __init__(self, texts, byte_level):
        self.blob, self.byte_level, self.used = blob(texts), byte_level, 0

    def raw(self, data):
        return len(data) <= 1 or data in self.blob

    def __call__(self, token):
        if self.byte_level and all(c in BYTE_OF for c in token):
            return self.raw(bytes(BYTE_OF[c] for c in token))
        bare = token[2:] if token.startswith("##") else token.removeprefix("\u2581")
        special = token[:1] in "<[" or len(bare) <= 1
        return special or self.raw(bare.encode())


def placeholder(i):
    return "\ue000" + str(i)


def read_lines(name):
    path = goldens / f"{name}.jsonl"
    return [json.loads(l) for l in open(path, encoding="utf-8")] if path.exists() else []


def llama_cpp_cases(vocabulary):
    base = tokenizers / "llama.cpp-vocabs" / f"ggml-vocab-{vocabulary}.gguf"
    texts = open(f"{base}.inp", encoding="utf-8", newline="").read().split("\n__ggml_vocab_test__\n")[:-1]
    ids = [[int(x) for x in l.split()] for l in open(f"{base}.out").read().split("\n")][:len(texts)]
    return [{"text": t, "ids": i} for t, i in zip(texts, ids)]


def swift_cases(name):
    folder, cases = tokenizers / "golden-swift-transformers", []
    tests = json.load(open(folder / "tokenizer_tests.json"))
    for key in SWIFT.get(name, []):
        cases += [{"text": c["input"], "ids_special": c["encoded"]["input_ids"]} for c in tests[key]]
    if name in SWIFT_TEXT:
        case = json.load(open(folder / f"{SWIFT_TEXT[name]}.json"))
        ids = case["token_ids"]
        kind = "ids_special" if ids[0] in (1, 101, 128000) or ids[-1] == 1 else "ids"
        cases.append({"text": case["text"], kind: case["token_ids"]})
    return cases


def pack(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(["zstd", "-q", "--ultra", "-22", "-c"], input=data, stdout=subprocess.PIPE, check=True)
    pathlib.Path(f"{path}.zst").write_bytes(packed.stdout)


def to_json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_cases(name, cases):
    pack(out / "goldens" / f"{name}.jsonl", b"".join(json.dumps(c).encode() + b"\n" for c in cases))


def with_runs(lines):
    """`lines` has None for placeholders; a run of them becomes one line U+E000 and its length."""
    result, run = [], 0
    for line in [*lines, ""]:
        if line is None:
            run += 1
            continue
        result += [placeholder(run)] if run else []
        result.append(line)
        run = 0
    return "\n".join(result).encode()


def tiktoken(source, keep):
    lines = source.read_text().splitlines()
    return with_runs([l if keep.raw(base64.b64decode(l.split()[0])) else None for l in lines])


def keep_merges(merges, keep):
    pairs = [(m, m.split(" ") if isinstance(m, str) else m) for m in merges]
    return [m for m, (left, right) in pairs if keep(left) and keep(right) and keep(left + right)]


def gpt2_files(folder, keep):
    vocabulary = json.load(open(folder / "vocab.json", encoding="utf-8"))
    last = max(vocabulary.values())
    kept = {t: i for t, i in vocabulary.items() if keep(t) or i == last}
    merges = [l for l in open(folder / "merges.txt", encoding="utf-8").read().split("\n") if l]
    head, rules = merges[:1], merges[1:]
    return to_json(kept), "\n".join(head + keep_merges(rules, keep) + [""]).encode()


def vocab_txt(source, keep):
    lines = source.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return with_runs([t if keep(t) else None for t in lines])


def tokenizer_json(source, keep):
    document = json.load(open(source, encoding="utf-8"))
    model, added = document["model"], {t["content"] for t in document["added_tokens"]}
    if isinstance(model["vocab"], list):
        lowest = min(s for _, s in model["vocab"])
        model["vocab"] = [[t, s] if keep(t) or t in added or s == lowest else [placeholder(i), -1.0]
                          for i, (t, s) in enumerate(model["vocab"])]
    else:
        model["vocab"] = {t if keep(t) or t in added else placeholder(i): i for t, i in model["vocab"].items()}
        model["merges"] = keep_merges(model["merges"], keep)
    return to_json(document)


def varint(value):
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def fields(data):
    at = 0
    def number():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value
    while at < len(data):
        begin, key = at, number()
        size = {0: lambda: number() * 0, 1: lambda: 8, 2: number, 5: lambda: 4}[key & 7]()
        yield key >> 3, data[begin:at + size], data[at:at + size]
        at += size


def sentencepiece_model(source, keep):
    result, index = b"", 0
    for field, whole, value in fields(source.read_bytes()):
        if field == 1:
            piece = {f: v for f, _, v in fields(value)}
            if 3 not in piece and not keep(piece[1].decode()):  # type 1, a normal piece
                text = placeholder(index).encode()
                value = b"\x0a" + varint(len(text)) + text + b"\x15" + struct.pack("<f", -1.0)
                whole = b"\x0a" + varint(len(value)) + value
            index += 1
        result += whole
    return result


def gguf(source, texts):
    data, at = source.read_bytes(), 24
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    def take(code):
        nonlocal at
        value, = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value
    def string():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size:at].decode("utf-8", "surrogateescape")
    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return inner, [value(inner) for _ in range(count)]
        return take(sizes[kind])
    version, _, count = struct.unpack_from("<IQQ", data, 4)
    entries = {}
    for _ in range(count):
        key = string()
        kind = take("I")
        entries[key] = kind, value(kind)
    entries = {k: v for k, v in entries.items() if k.startswith(("tokenizer.", "general.architecture"))}
    keep = Keep(texts, entries["tokenizer.ggml.model"][1] == "gpt2")
    tokens = entries["tokenizer.ggml.tokens"][1][1]
    types = entries["tokenizer.ggml.token_type"][1][1]
    keeps = [t == tokens[-1] or types[i] != 1 or keep(t) for i, t in enumerate(tokens)]
    entries["tokenizer.ggml.tokens"] = 9, (8, [t if k else placeholder(i) for i, (t, k) in enumerate(zip(tokens, keeps))])
    if "tokenizer.ggml.scores" in entries:
        scores = entries["tokenizer.ggml.scores"][1][1]
        entries["tokenizer.ggml.scores"] = 9, (6, [s if k else -1.0 for s, k in zip(scores, keeps)])
    if "tokenizer.ggml.merges" in entries:
        entries["tokenizer.ggml.merges"] = 9, (8, keep_merges(entries["tokenizer.ggml.merges"][1][1], keep))
    def encode(kind, item):
        if kind == 8:
            text = item.encode("utf-8", "surrogateescape")
            return struct.pack("<Q", len(text)) + text
        if kind == 9:
            return struct.pack("<IQ", item[0], len(item[1])) + b"".join(encode(item[0], x) for x in item[1])
        return struct.pack("<" + sizes[kind], item)
    body = b"".join(encode(8, k) + struct.pack("<I", kind) + encode(kind, v) for k, (kind, v) in entries.items())
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(entries)) + body


def cases_of(name):
    own = read_lines(name)
    extra = llama_cpp_cases(LLAMA_CPP[name]) if name in LLAMA_CPP else []
    return own + extra + swift_cases(name)


def text_file(reduce, file, name, keep):
    pack(out / name / file, reduce(tokenizers / name / file, keep))


def gpt2_folder(name, keep):
    vocabulary, merges = gpt2_files(tokenizers / name, keep)
    pack(out / name / "vocab.json", vocabulary)
    pack(out / name / "merges.txt", merges)


def hugging_face(name, keep):
    text_file(tokenizer_json, "tokenizer.json", name, keep)
    config = tokenizers / name / "tokenizer_config.json"
    if config.exists():
        (out / name / "tokenizer_config.json").write_bytes(config.read_bytes())


TABLE = {  # name: (writer, tokens are in the byte-level alphabet)
    "gpt-neox-olmo": (hugging_face, True), "SmolLM2": (hugging_face, True), "phi-3-mini": (hugging_face, False),
    "t5-small": (hugging_face, False), "gpt2": (gpt2_folder, True), "roberta-base": (gpt2_folder, True),
    "opt": (None, True),  # the files of roberta-base
    **{n: (lambda n, k: text_file(vocab_txt, "vocab.txt", n, k), False) for n in ("bert-base-cased", "bert-base-uncased")},
    **{n: (lambda n, k: text_file(sentencepiece_model, "tokenizer.model", n, k), False) for n in ("llama2", "mistral-v1")},
    "llama3": (lambda n, k: text_file(tiktoken, "tokenizer.model", n, k), False),
    "qwen2": (lambda n, k: text_file(tiktoken, "qwen.tiktoken", n, k), False),
}
GGUFS = ("bert-bge", "deepseek-coder", "falcon", "gpt-2", "llama-spm", "phi-3", "starcoder")


def main():
    wanted = sys.argv[4:] or [*TABLE, *(f"gguf-{n}" for n in GGUFS)]
    for name in wanted:
        if name in TABLE:
            cases = read_lines(name) + (llama_cpp_cases(LLAMA_CPP[name]) if name in LLAMA_CPP else []) + swift_cases(name)
            writer, byte_level = TABLE[name]
            if writer:
                writer(name, Keep([c["text"] for c in cases], byte_level))
        else:
            bare = name.removeprefix("gguf-")
            cases = llama_cpp_cases(bare) + read_lines(bare) + swift_cases(bare)
            source = tokenizers / "llama.cpp-vocabs" / f"ggml-vocab-{bare}.gguf"
            pack(out / name / "vocab.gguf", gguf(source, [c["text"] for c in cases]))
        write_cases(name, cases)


main()
