#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Units compiled with instruction-set flags may define only symbols of nibble::kernels: a std:: or shared inline
# symbol would be merged by the linker with the baseline's copy and crash older CPUs (the one-definition trap).
# Usage: tools/check_kernel_symbols.sh BUILD_DIR
set -euo pipefail
build=${1:?usage: $0 BUILD_DIR}
found=0 bad=0
while IFS= read -r -d '' object; do
  found=$((found + 1))
  # Weak (W, V, u) and global (T, D, R, B) definitions; local ones (lower case) cannot clash.
  symbols=$(nm --defined-only --demangle "$object" | awk '$2 ~ /^[A-Zu]$/' | sed -E 's/^[0-9a-f]+ . //' |
    grep -vE '^((vtable|typeinfo|typeinfo name|guard variable) for )?nibble::kernels::' || true)
  weak=$(nm --defined-only --demangle "$object" | awk '$2 ~ /^[WVu]$/' || true)
  if [ -n "$symbols$weak" ]; then
    bad=1
    printf '%s exports symbols that other units may share:\n%s\n%s\n' "$object" "$symbols" "$weak" >&2
  fi
done < <(find "$build" -path '*kernels*' \( -name 'avx2.cc.o' -o -name 'avx512.cc.o' -o -name 'avx512vnni.cc.o' \) -print0)
[ "$found" -gt 0 ] || { echo "no kernel objects under $build" >&2; exit 1; }
[ "$bad" -eq 0 ] && echo "$found kernel objects export only their own symbols"
exit "$bad"
