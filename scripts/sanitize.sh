#!/usr/bin/env bash
# The native thread pool under ThreadSanitizer, and under AddressSanitizer with UndefinedBehaviorSanitizer. Argument: steps.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-20000}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for kind in thread address,undefined; do
  ${CXX:-g++} -std=c++20 -O1 -g -pthread "-fsanitize=$kind" -fno-sanitize-recover=all native/test/pool.cpp native/cpu/pool.cpp -o "$out/pool"
  echo "sanitizer $kind"
  # address space is not randomised: older ThreadSanitizers do not find their place in what newer kernels give
  setarch "$(uname -m)" -R env TSAN_OPTIONS=halt_on_error=1 "$out/pool" "$steps" 2>&1 || {
    echo "sanitizer $kind: failed" >&2
    exit 1
  }
done
