#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what packages.txt lists (Debian, Ubuntu) when something is missing; says what to type when it may not.
set -eu
cd "$(dirname "$0")/.."
missing=""
for package in $(grep -v '^#' packages.txt); do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "nibble needs these Debian packages, or what corresponds to them here:$missing" >&2
  exit 1
fi
root=""
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    root="sudo"
  else
    echo "missing packages; as root, type: apt-get install$missing" >&2
    exit 1
  fi
fi
echo "installing:$missing"
$root apt-get update -qq
# shellcheck disable=SC2086  # the list is meant to be split
DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing >/dev/null
