"""Seconds of what the library does, beside what the processor can do: `make bench`.

    python benchmarks/bench.py                     every row, on two idle cores (decoding: minutes)
    python benchmarks/bench.py --list              the rows, and the older scripts that keep one claim each
    python benchmarks/bench.py step predict        these rows; the name of a script runs that script
    python benchmarks/bench.py --tiny              the same rows on models of minutes: does it run at all?

First the ceiling: products of large matrices in fp32 and bf16, and a copy. Each row then says its seconds
(median), its floating-point operations (torch.utils.flop_counter), its part of the ceiling of its
precision, and the share of its time that passes inside products, convolutions and the attention kernel
(torch.profiler, one more call): what is left is all that better plumbing could save. The rate of a shared
processor moves by a factor of two within minutes, so a large product and the row take turns: each round
gives one part of the ceiling, the row says their median and quartiles. Figures on one machine, idle. The
process keeps its memory (`keep_memory`), as `instcomp train` does. A run is one file,
benchmarks/speed/<processor>/<row>.json; the tables and plots of benchmarks/README.md are written from these
files by `report`, also alone: --report.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from origin import commands, commit
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from instcomp.data.scenes import Scene, SceneSource
from instcomp.data.synthetic_views import object_views, on_white
from instcomp.experiments.builder import build
from instcomp.experiments.gan import gan_preset
from instcomp.fields.coords import grid
from instcomp.geometry.camera import pinhole
from instcomp.models.attention import ROADS
from instcomp.models.discriminator import build_gan
from instcomp.models.local import decode_windows, encode_windows
from instcomp.training.device import DTYPES, Way, device_of, going, keep_memory, precisions_of
from instcomp.training.trainer import optimizer, train_settings

HERE = Path(__file__).parent
FOLDER = HERE/'speed'
PAPER = dict(step='image-ipc-paper-celeba', cavia='image-ipc-cavia-paper-imagenette',
             views='nvs-ipc-paper-cars', local='photos-local')
TINY = dict(step='image-ipc-tiny', cavia='image-ipc-cavia-tiny', views='nvs-ipc-tiny-cars',
            local='image-local-tiny')


def images(model, n=4):
    size = model.config['size']
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def scenes(model, n=4):
    "Chosen rays of one car, as a step of the preset draws them."
    size, angle = model.config['size'], .54
    made = object_views('car', 6, 6, size, angle)
    one = Scene(on_white(made['pictures']), made['poses'], pinhole(size, size, angle))
    return SceneSource([one], 1, 128, 1).batch(n, size, np.random.default_rng(0), [0]*n)


def training(model, signal, device):
    "Forward, backward, update."
    row, model = train_settings(model.config), model.to(device).train()
    opt = optimizer(model, row)
    drawing = dict(noise=row['noise'], subsample=row['subsample'], fraction=row['fraction'])
    def job(way):
        with going(way, device):
            loss = model.losses(model.encode(signal, **drawing), signal, **drawing).mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
    return job


def without_gradients(f, device):
    @torch.no_grad()
    def job(way):
        with going(way, device): f()
    return job


def step(names, device):
    model = build(names['step'], device)
    return training(model, images(model).to(device), device)


def predict(names, device):
    model = build(names['step'], device).eval()
    signal, at = images(model).to(device), grid((model.config['size'],)*2, device=device)
    return without_gradients(lambda: model(signal, at), device)


def encode(names, device):
    model = build(names['step'], device).eval()
    signal = images(model, 16).to(device)
    return without_gradients(lambda: model.encode(signal), device)


def decode(names, device):
    model = build(names['step'], device).eval()
    code = torch.randn(1, *model.modulator.code_shape, device=device)
    side = 4096 if names is PAPER else 256
    return without_gradients(lambda: model.decode(code, grid((side, side), device=device)), device)


def cavia(names, device):
    model = build(names['cavia'], device)
    return training(model, images(model).to(device), device)


def views(names, device):
    model = build(names['views'], device)
    signal = {key: value.to(device) for key, value in scenes(model).items()}
    return training(model, signal, device)


def local(names, device):
    model, side = build(names['local'], device).eval(), 512 if names is PAPER else 64
    picture = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    def enlarged():
        for _ in decode_windows(model, encode_windows(model, picture), (2*side, 2*side)): pass
    return without_gradients(enlarged, device)


def gan(names, device):
    row = gan_preset('inrgan-tiny')
    model = build_gan(row)
    pictures = torch.rand(16, 3, row['size'], row['size'], generator=torch.Generator().manual_seed(0))
    model.config['train'] = row['train']
    return training(model, pictures.to(device), device)


ROWS = {f.__name__: f for f in (step, predict, encode, decode, cavia, views, local, gan)}
ATTEND = 'step', 'predict', 'encode', 'views'       # the others have no transformer
SAYS = dict(step='training step, CelebA 178 x 178, batch 4', predict='prediction of 4 pictures, 178 x 178',
            encode='encoding 16 pictures, 178 x 178', decode='decoding 4096 x 4096 from one code',
            cavia='training step of CAVIA, two inner steps, batch 4',
            views='training step of views, 4 x 128 rays',
            local='local codes: 512 x 512 pixels encoded, decoded at 1024 x 1024',
            gan='training step of INR-GAN (tiny), 16 pictures')


def timed(job, device):
    "Seconds of one call."
    began = time.perf_counter()
    job()
    if device.type == 'cuda': torch.cuda.synchronize(device)
    return time.perf_counter() - began


def turns(jobs, device, runs, seconds=0):
    "Seconds of each job, turn by turn after a round to warm up: `runs` rounds, more if `seconds` hold more."
    first = sum([timed(job, device) for job in jobs.values()])
    rounds = [{name: timed(job, device) for name, job in jobs.items()}
              for _ in range(max(runs, int(seconds/first)))]
    return {name: [row[name] for row in rounds] for name in jobs}


def clocked(job, device, runs):
    "Median seconds after one call to warm up."
    return statistics.median(turns(dict(job=job), device, runs)['job'])


def large_product(device, precision, n):
    "A job: the product of two n x n matrices, 2n^3 operations."
    a, b, out = (torch.ones(n, n, dtype=DTYPES[precision], device=device) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def ceiling(device, runs, n):
    "What the processor can do: GFLOP/s of products of n x n, fp32 and bf16; GB/s of a copy of 256 MB."
    found = {precision: 2e-9*n**3/clocked(large_product(device, precision, n), device, runs)
             for precision in ('fp32', 'bf16')}
    a = torch.ones(2**26, device=device)
    b = torch.empty_like(a)
    return found | dict(copy=2*a.nbytes*1e-9/clocked(lambda: b.copy_(a), device, runs))


def machine(device):
    "Where a figure comes from."
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.processor()
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    model = next((line.partition(': ')[2] for line in lines if line.startswith('model name')), name)
    flags = next((line for line in lines if line.startswith('flags')), '').split()
    units = [unit for unit in ('amx_bf16', 'avx512_bf16') if unit in flags]
    kind = ' '.join([re.sub(r'\(R\)| Processor', '', model), *units[:1]])
    return dict(commit=commit(), device=str(device), processor=name if device.type == 'cuda' else kind,
                bf16_units=device.type == 'cuda' or bool(units),
                threads=torch.get_num_threads(), torch=torch.__version__, python=platform.python_version(),
                seed=0, load=round(os.getloadavg()[0], 2))


def operations(job):
    "Floating-point operations of a call; module by module is not asked, which first derivatives forbid."
    counter, counter_of_modules = FlopCounterMode(display=False), nullcontext()
    counter_of_modules.parents = {'Global'}
    counter.mod_tracker = counter_of_modules
    with counter: job()
    return counter.get_total_flops()


PRODUCTS = 'mm', 'addmm', 'bmm', 'baddbmm', 'mkldnn_convolution', 'cudnn_convolution', 'convolution_backward'


def products(job, device):
    "Share of a call's time inside products, convolutions and kernels of attention."
    kind = ProfilerActivity.CUDA if device.type == 'cuda' else ProfilerActivity.CPU
    with profile(activities=[kind], acc_events=True) as seen: job()
    name = 'self_device_time_total' if device.type == 'cuda' else 'self_cpu_time_total'
    times = {event.key.removeprefix('aten::'): getattr(event, name) for event in seen.key_averages()}
    inside = sum(t for key, t in times.items() if key in PRODUCTS or 'flash_attention' in key)
    return inside/sum(times.values())


def measure(name, names, device, n, a):
    "Seconds of a row by every way, beside what it computes and the ceiling, which takes its turn each round."
    torch.manual_seed(0)
    job, found = ROWS[name](names, device), {}
    work = operations(lambda: job(Way('fp32', 'heads')))*1e-9                  # all counted
    for precision in ('fp32', 'bf16') if 'bf16' in precisions_of(device) else ('fp32',):
        jobs = {road: lambda p=precision, r=road: job(Way(p, r))
                for road in (ROADS if name in ATTEND else ['kernel'])}
        both = jobs | dict(ceiling=large_product(device, precision, n))
        taken = turns(both, device, a.runs, a.seconds)
        roads = {road: statistics.median(taken[road]) for road in jobs}
        road = min(roads, key=roads.get)
        tops = [2e-9*n**3/t for t in taken['ceiling']]
        of_each = [work/t/top for t, top in zip(taken[road], tops)]
        goes = road if name in ATTEND else 'none'
        found[precision] = dict(seconds=roads[road], attention=goes, roads=roads,
                                gflops=work/roads[road], part=statistics.median(of_each),
                                rounds=[dict(ceiling=round(top), part=round(part, 3))
                                        for top, part in zip(tops, of_each)],
                                products=products(jobs[road], device))
    return dict(row=name, says=SAYS[name], gflop=work, precisions=found)


def percent(got):
    "Median and quartiles of the rounds; of a row measured before the ceiling had turns, the median alone."
    parts = [row['part'] for row in got.get('rounds', [])]
    middle = f'{100*got["part"]:.0f} %'
    if not parts: return middle
    low, _, high = statistics.quantiles(parts, method='inclusive')
    return f'{middle} ({100*low:.0f} to {100*high:.0f})'


def table(runs):
    "One line a row and precision."
    lines = ['| row | precision | seconds | GFLOP | GFLOP/s | part of the ceiling | time in products '
             '| attention |', '|---|' + '---|'*7]
    for run in runs:
        for precision, got in run['precisions'].items():
            lines.append(f'| {run["says"]} | {precision} | {got["seconds"]:.3g} | {run["gflop"]:.0f} '
                         f'| {got["gflops"]:.0f} | {percent(got)} '
                         f'| {100*got["products"]:.0f} % | {got["attention"]} |')
    return '\n'.join(lines)


def held(runs):
    "What holds a prediction back, as its profile has it; nothing where that row is not measured."
    parts = [f'{100*got["products"]:.0f} % ({precision})' for run in runs if run['row'] == 'predict'
             for precision, got in run['precisions'].items()]
    said = f'A prediction spends {" and ".join(parts)} of its time inside products and attention.'
    return said if parts else ''


COMPARED = dict(step='train_step_ratio', predict='inference_ratio', cavia='cavia_step_ratio',
                views='views_step_ratio')               # row: key of its claim, of benchmarks/ratios.py
WHERE = {'': '', '_both': ', both keep memory', '_neither': ', neither does', '_epyc': ' at {commit}'}


def ratios():
    "How many times as fast as the official code, of benchmarks/ratios.py: a line a row, columns a machine."
    claims = json.loads((HERE/'claims'/'speed.json').read_text('utf-8'))
    heads, lines = [], [f'| {SAYS[name]} |' for name in COMPARED]
    for end, more in WHERE.items():
        found = [[claims.get(f'{key}_{p}{end}') for p in ('fp32', 'bf16')] for key in COMPARED.values()]
        one = next((claim for pair in found for claim in pair if claim), None)
        if not one: continue
        heads += [f'{one["processor"]}{more.format(**one)}: {p}' for p in ('fp32', 'bf16')]
        lines = [line + ''.join(f' {claim["value"]:.2f} |' if claim else ' |' for claim in pair)
                 for line, pair in zip(lines, found)]
    title = f'| times as fast as the official code | {" | ".join(heads)} |'
    return '\n'.join([title, '|---|' + '---|'*len(heads), *lines])


def chart(runs, path):
    "Part of the ceiling, a bar a row and precision."
    import matplotlib.pyplot as plt
    bars = [(f'{run["row"]} {p}', got['part']) for run in runs for p, got in run['precisions'].items()][::-1]
    figure, ax = plt.subplots(figsize=(6, .28*len(bars) + .6))
    ax.barh(*zip(*bars), color=['C1' if 'bf16' in name else 'C0' for name, _ in bars])
    ax.axvline(1, color='k', lw=.8)
    ax.set_xlabel('part of the rate of a large matrix product')
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def span(runs, key):
    "Smallest and largest ceiling of any round."
    tops = [run['ceiling'][key] for run in runs]
    tops += [row['ceiling'] for run in runs for row in run['precisions'].get(key, {}).get('rounds', [])]
    low, high = (f'{end:.0f}' for end in (min(tops), max(tops)))
    return low if low == high else f'{low} to {high}'


def section(folder):
    "What one machine did: its ceiling, the table, the plot."
    runs = [json.loads((folder/f'{name}.json').read_text('utf-8')) for name in ROWS
            if (folder/f'{name}.json').exists()]
    chart(runs, folder/'ceiling.png')
    one = runs[-1]
    units = 'with' if one['bf16_units'] else 'without'
    commits = ', '.join(dict.fromkeys(run['commit'] for run in runs))
    return f"""## {one['processor']}
* {units} bf16 units, {one['threads']} threads, torch {one['torch']}, commits {commits}
* ceiling: products of large matrices, {span(runs, 'fp32')} GFLOP/s in fp32, {span(runs, 'bf16')} in bf16
* copies: {span(runs, 'copy')} GB/s

{table(runs)}

{held(runs)}

![part of the ceiling on {one['processor']}](speed/{folder.name}/ceiling.png)
"""


def report():
    "benchmarks/README.md and its plots, from the files of all rows."
    folders = sorted({path.parent for path in FOLDER.glob('*/*.json')})
    if not folders: sys.exit('no row is measured yet: python benchmarks/bench.py')
    text = f"""# Benchmarks
`make bench` measures each row below (`python benchmarks/bench.py --list` names them) and writes this page.

* operations: those of matrix products, counted with attention by heads
* part of the ceiling: median of the rounds, in brackets their quartiles; a large product has a turn in each
  (the rate of a shared processor changes within minutes); without brackets: a ceiling measured once, before
* every row runs in a process that keeps its memory (`keep_memory`), as `instcomp train` and `fit` do; other
  commands do not
* time in products: also inside convolutions and kernels of attention, by torch.profiler

{chr(10).join(map(section, folders))}
## Beside the official code
kakaobrain/ginr-ipc at 135f55c, in fp32, its only precision on a processor, and ours, turn by turn, each in a
process of its own; the median of the rounds' ratios (`python benchmarks/ratios.py --peer FOLDER`):

{ratios()}

Training, ours keeps its memory (`keep_memory`), as `instcomp train` does. A process without it asks the
system for its large tensors anew in each step, and how long that takes depends on the machine.
"""
    (HERE/'README.md').write_text(text, 'utf-8')


def scripts():
    "Older scripts by name: each re-measures its claims."
    return {Path(command.split()[0]).stem: command.split() for command in commands()}


def listed():
    for name, says in SAYS.items(): print(f'{name:12}{says}')
    for name, command in scripts().items(): print(f'{name:12}{" ".join(command)}')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('names', nargs='*', help='rows or scripts; default: every row')
    for flag in ('list', 'tiny', 'report'): p.add_argument(f'--{flag}', action='store_true')
    p.add_argument('--runs', type=int, default=3, help='rounds of a row and precision, at least')
    p.add_argument('--seconds', type=float, default=60, help='and as many more as fit into these')
    p.add_argument('--threads', type=int, default=torch.get_num_threads())
    p.add_argument('--device')
    a = p.parse_args()
    if a.list: return listed()
    if a.report: return report()
    others, device = scripts(), device_of(a.device)
    if unknown := [name for name in a.names if name not in ROWS and name not in others]:
        p.error(f'{unknown[0]}: no such row; --list shows all')
    for name in [name for name in a.names if name not in ROWS]:
        subprocess.run([sys.executable, *others[name]], check=True)
    rows = [name for name in ROWS if name in a.names or not a.names]
    if not rows: return
    torch.set_num_threads(a.threads)
    keep_memory()
    names, n = (TINY, 512) if a.tiny else (PAPER, 4096)
    limits = dict(ceiling=ceiling(device, a.runs, n))
    print(json.dumps(limits), flush=True)
    for name in rows:
        found = measure(name, names, device, n, a) | limits | machine(device)
        print(table([found]).splitlines()[2:], flush=True)
        if a.tiny: continue
        folder = FOLDER/re.sub(r'[^a-z0-9]+', '-', found['processor'].lower())
        folder.mkdir(parents=True, exist_ok=True)
        (folder/f'{name}.json').write_text(json.dumps(found, indent=1) + '\n', 'utf-8')
    if not a.tiny: report()


if __name__ == '__main__': main()
