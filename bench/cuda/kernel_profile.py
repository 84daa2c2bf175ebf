"""Each kernel of a step of Llama-3-8B shapes for Nsight Compute: one layer and what comes before and after the layers.
ncu --clock-control none --profile-from-start off --section SpeedOfLight --section WarpStateStats --section Occupancy \\
  --section ComputeWorkloadAnalysis -o OUT python3 kernel_profile.py run NAMES.json [1 64 256 64:8 256:8 prefill]   (batch[:KV bits] at context 1,024; prefill of 8,192)
ncu -i OUT.ncu-rep --csv --page raw > OUT.csv; python3 kernel_profile.py table OUT.csv NAMES.json: the table, as JSON a row"""
import csv, json, sys

STALL = 'smsp__average_warps_issue_stalled_'


def run(names, steps):
    import torch
    from chain import D, FF, GEMMS, KH, HD, Model, State, prefill_config, start_for, step

    model, seen = Model(layers=1), []
    for what in steps:
        if what == 'prefill':
            m, context = 8192, 8192
            cfg, att = prefill_config()
            s = State(m, 1, context, logits=1, layers=1)
            launches = step(model, s, cfg, pdl=False, prefill=att)
        else:
            m, _, bits = what.partition(':')
            m, bits, context = int(m), int(bits or 16), 1024
            s = State(m, m, context, bits=bits, layers=1)
            launches = step(model, s, start_for(m), pdl=False)
        for _, launch in launches:
            launch()
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        for name, launch in launches:
            launch()
            flops = megabytes = None
            if name in GEMMS:
                n, k, _ = GEMMS[name]
                rows = s.logit_rows if name == 'lm' else m
                flops, megabytes = 2 * rows * n * k, n * k * 2 / 1e6
            elif name == 'attention' and what != 'prefill':
                megabytes = m * context * 2 * KH * (HD * bits // 8 + (0 if bits == 16 else 4)) / 1e6
            elif name == 'attention':
                flops = 4 * (D // HD) * HD * context * (context + 1) / 2
            seen.append(dict(step=what, kernel=name, flops=flops, megabytes=megabytes))
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
        del s, launches
        torch.cuda.empty_cache()
    json.dump(seen, open(names, 'w'))


def table(file, names):
    lines = [line for line in open(file) if line.startswith('"')]
    rows = list(csv.DictReader(lines))
    units, rows = rows[0], rows[1:]
    seen = json.load(open(names))
    assert len(rows) == len(seen), f'{len(rows)} kernels were profiled, {len(seen)} launched'

    def number(row, name):
        text = row.get(name, '').replace(',', '')
        return float(text) if text else None

    scale = {'ns': 1e-3, 'nsecond': 1e-3, 'us': 1, 'usecond': 1, 'ms': 1e3, 'msecond': 1e3}[units['gpu__time_duration.sum']]
    for row, r in zip(rows, seen):
        us = number(row, 'gpu__time_duration.sum') * scale
        share = lambda name: number(row, f'{name}.avg.pct_of_peak_sustained_elapsed')
        stalls = {k[len(STALL) :].replace('_per_issue_active.ratio', ''): number(row, k) for k in row if k.startswith(STALL) and k.endswith('_per_issue_active.ratio') and 'not_issued' not in k}
        stalls.pop('selected', None)
        worst = sorted(((v, k) for k, v in stalls.items() if v), reverse=True)[:2]
        print(
            json.dumps(
                dict(
                    step=r['step'], kernel=r['kernel'], us=round(us, 1), dram=share('gpu__dram_throughput') or share('dram__throughput'), l2=share('lts__throughput'), sm=share('sm__throughput'),
                    tensor=share('sm__pipe_tensor_cycles_active'), warps=number(row, 'sm__warps_active.avg.pct_of_peak_sustained_active'),
                    blocks=row.get('Grid Size'), stalls=[f'{k} {v:.1f}' for v, k in worst], gigabytesPerSecond=r['megabytes'] and round(r['megabytes'] / us * 1e3),
                    teraflops=r['flops'] and round(r['flops'] / us / 1e6),
                )
            )
        )


if __name__ == '__main__':
    mode, *rest = sys.argv[1:]
    run(rest[0], rest[1:] or ['1', '64', '256', 'prefill']) if mode == 'run' else table(*rest)
