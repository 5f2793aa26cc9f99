#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rounding to nearest beside the machine's file rate and llama.cpp's quantizer, in turn, page cache warm.

    python3 tools/make_checkpoint.py /tmp/model --shape 0.7b
    python3 tools/bench_rtn.py --nibble build/nibble --model /tmp/model --work /tmp/bench \
        [--llama-quantize PATH --gguf MODEL-BF16.gguf] --rounds 5

The file rate is that of the bytes a run reads plus those it writes: every weight file is read once and as many bytes
as the output holds are written and synced, with the same number of threads. Prints seconds a round and the medians.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import statistics
import subprocess
import time

PART = 8 << 20


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def read_range(path, begin, end):
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(PART)
        file.seek(begin)
        while begin < end:
            count = file.readinto(buffer)
            if count == 0:
                return
            begin += count


def write_file(path, size):
    part = os.urandom(PART)
    with open(path, "wb", buffering=0) as file:
        while size > 0:
            size -= file.write(part[:min(size, PART)])
        os.fsync(file.fileno())


def read_and_write(files, written, work, threads):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        jobs = []
        for file in files:
            size, share = file.stat().st_size, file.stat().st_size // threads + 1
            jobs += [pool.submit(read_range, file, begin, min(begin + share, size)) for begin in range(0, size, share)]
        jobs += [pool.submit(write_file, work / f"rate.{i}", written // threads) for i in range(threads)]
        for job in jobs:
            job.result()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--llama-quantize")
    parser.add_argument("--gguf")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    files = sorted(options.model.glob("*.safetensors"))
    source = sum(file.stat().st_size for file in files)
    out = options.work / "out"

    def compress():
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run([options.nibble, "oneshot", options.model, "--scheme", "W4A16", "--threads",
                        str(options.threads), "--output-dir", out, "--quiet"], check=True)

    def llama():
        subprocess.run([options.llama_quantize, options.gguf, options.work / "out.gguf", "Q4_0", str(options.threads)],
                       check=True, capture_output=True)

    compress()
    written = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    seconds = {"files": [], "nibble": [], "llama-quantize": []}
    for _ in range(options.rounds):
        seconds["nibble"].append(timed(compress))
        seconds["files"].append(timed(lambda: read_and_write(files, written, options.work, options.threads)))
        if options.llama_quantize:
            seconds["llama-quantize"].append(timed(llama))
    print(f"{source / 1e6:.0f} MB read, {written / 1e6:.0f} MB written, {options.threads} threads")
    for name, values in seconds.items():
        if values:
            print(f"{name:15} {' '.join(f'{v:.2f}' for v in values)}  median {statistics.median(values):.2f} s")
    ratio = statistics.median(f / n for f, n in zip(seconds["files"], seconds["nibble"]))
    print(f"share of the file rate {100 * ratio:.0f} %")
    if options.llama_quantize:
        ratio = statistics.median(l / n for l, n in zip(seconds["llama-quantize"], seconds["nibble"]))
        print(f"llama-quantize / nibble {ratio:.2f}")


if __name__ == "__main__":
    main()
