#!/usr/bin/env bash
# The native library under AddressSanitizer (with UndefinedBehaviorSanitizer for all but the kernels) and under ThreadSanitizer:
# the thread pool by itself, then the device's tests. What `npm run build` makes must be there.
#   bash scripts/sanitize.sh          the kernels of this machine's best instruction set, the tests of the contract
#   bash scripts/sanitize.sh --long   all kernels, every test of the CPU device (half an hour and more)
set -euo pipefail
cd "$(dirname "$0")/.."
compiler=$(command -v "${CXX:-g++}")
long=no steps=3000 tests=(contract)
if [ "${1:-}" = --long ]; then
  long=yes steps=20000 tests=(contract steps forward invariance linear sample)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
best=portable
if [ "$(uname -m)" = x86_64 ]; then
  best=avx2
  if grep -q avx512_vnni /proc/cpuinfo; then best=avx512; fi
fi

node -e "import('$PWD/dist/src/device/cpu/layout.js').then((m) => process.stdout.write(m.abiHeader()))" > "$work/abi.gen.h"

# GCC takes minutes for the kernels' stack variables; heap and mapped memory is what they may leave
quick='--param asan-stack=0 --param asan-instrumentation-with-call-threshold=0'
flags_of() { [ "$1" = thread ] && echo "-fsanitize=thread -Wno-tsan" || echo "-fsanitize=address $quick"; }
undefined_of() { [ "$1" = thread ] || echo "-fsanitize=undefined -fno-sanitize-recover=all"; }

# A compiler for the library's own build, under a version of its own so that its library has a name of its own.
wrapper() {
  mkdir "$work/$1"
  cat > "$work/$1/g++" <<EOF
#!/usr/bin/env bash
export LD_PRELOAD=
case "\$*" in
  *--version*) echo "sanitizer $1, all kernels: $long, \$($compiler --version | head -n 1)"; exit ;;
  *-shared*) exec $compiler "\$@" $(flags_of "$1") $(undefined_of "$1") ;;
  */vnni.cpp*|*/amx.cpp*) if [ $long = no ]; then exec $compiler "\$@" -DLM_BUILD_ABSENT; else exec $compiler "\$@" -O1 -g1 $(flags_of "$1"); fi ;;
  *kernels.cpp*)
    set="\${*: -1}" && set="\$(basename "\$set" .o)"
    if [ $long = no ] && [ "\$set" != $best ]; then
      echo "struct LmKernels; extern \"C\" const LmKernels *lm_kernels_$best(void);
        extern \"C\" const LmKernels *lm_kernels_\$set(void) { return lm_kernels_$best(); }" > "$work/\$set.cpp"
      exec $compiler -fPIC -c "$work/\$set.cpp" -o "\${*: -1}"
    fi
    exec $compiler "\$@" -O1 -g1 $(flags_of "$1") ;;
  *) exec $compiler "\$@" -O1 -g1 $(flags_of "$1") $(undefined_of "$1") ;;
esac
EOF
  chmod +x "$work/$1/g++"
}

for kind in thread address; do
  echo "sanitizer $kind: the pool"
  # shellcheck disable=SC2046
  "$compiler" -std=c++20 -O1 -g -pthread $(flags_of $kind) $(undefined_of $kind) -I "$work" \
    native/test/pool.cpp native/cpu/pool.cpp native/cpu/platform.cpp -o "$work/pool"
  # address space is not randomised: older ThreadSanitizers do not find their place in what newer kernels give
  quiet=(setarch "$(uname -m)" -R env TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1 ASAN_OPTIONS=detect_leaks=0)
  "${quiet[@]}" "$work/pool" "$steps"

  echo "sanitizer $kind: the device's tests"
  wrapper $kind
  # the tests run in a copy that finds the library as a prebuilt one: what is under ThreadSanitizer cannot start a compiler
  app=$work/app-$kind
  mkdir -p "$app/native/prebuilt"
  cp -r dist package.json "$app"
  cp -r native/cpu "$app/native"
  ln -s "$PWD/node_modules" "$app/node_modules"
  PATH="$work/$kind:$PATH" node --input-type=module - "$app" <<'EOF'
import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
const app = process.argv[2];
const { buildNativeLibrary } = await import(`${process.cwd()}/dist/src/device/cpu/build.js`);
const { sourceDigest } = await import(`${process.cwd()}/dist/src/device/cpu/recipe.js`);
copyFileSync(buildNativeLibrary(), `${app}/native/prebuilt/library.so`);
const sha256 = createHash('sha256').update(readFileSync(`${app}/native/prebuilt/library.so`)).digest('hex');
const library = { file: 'library.so', sha256, sources: sourceDigest(`${app}/native/cpu`), glibc: null };
const libraries = { [`${process.platform}-${process.arch}`]: library };
writeFileSync(`${app}/native/prebuilt/manifest.json`, JSON.stringify({ libraries }));
EOF
  short=$([ $kind = thread ] && echo tsan || echo asan)
  runtime=$("$compiler" -print-file-name=lib$short.so)
  for test in "${tests[@]}"; do
    "${quiet[@]}" LD_PRELOAD="$runtime" node --test-force-exit "$app/dist/test/device/$test.test.js" > "$work/output" 2>&1 ||
      { grep -vE '^ *(ok|\.\.\.|---|duration_ms|type:|# Subtest|[0-9]+\.\.)' "$work/output" | head -n 100; echo "sanitizer $kind: $test failed" >&2; exit 1; }
    echo "  $test: $(grep -c '^ *ok ' "$work/output") passed"
  done
done
