// SPDX-License-Identifier: Apache-2.0
#include <nibble/nibble.h>

#include <cstdio>

int main(int argc, char** argv) {
  nibble::Options options;
  options.model = argc > 1 ? argv[1] : "";
  options.scheme = "W4A16";
  options.group_size = 32;
  const nibble::Outcome outcome = nibble::plan(options);
  std::printf("nibble %s: code %d, %.3f bits a weight, %llu bytes\n", nibble::version(), outcome.code,
              outcome.bits_per_weight, static_cast<unsigned long long>(outcome.output_bytes));
  if (!outcome.ok()) std::fprintf(stderr, "%s\n", outcome.error.c_str());
  return outcome.code;
}
