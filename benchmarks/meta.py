"""Chapter 11 measured: gradient steps against other roads, against a random start, and their price.

    python benchmarks/meta.py roads   rows of presets for equal time, as benchmarks/ablations.py trains them
    python benchmarks/meta.py gain    shipped CAVIA weights against random ones, the same two steps
    python benchmarks/meta.py step    seconds and memory of one step at the paper's ImageNette-178 setting

`roads` goes on where benchmarks/meta.json ends. Each command writes its part of benchmarks/meta.json and of
benchmarks/claims/meta.json.
"""
import argparse
import json
import resource
import time
from pathlib import Path

import torch
from ablations import least, run
from origin import add, commit

from instcomp.data.datasets import evaluation_images
from instcomp.experiments.builder import build, load
from instcomp.experiments.catalog import row
from instcomp.tasks.image import evaluate
from instcomp.training.trainer import optimizer

HERE = Path(__file__).parent
ROADS = {  # claim: row
    'images_learned_init': 'image-learnedinit-tiny',
    'images_ipc_cavia': 'image-ipc-cavia-tiny',
    'images_ipc_conv': 'image-ipc-conv-tiny',
}
SECONDS, SEEDS = 60, (0, 1)


def keep(part, table, claims, seed=0):                # into both files, beside what is there
    origin = dict(command=f'python benchmarks/meta.py {part}', seed=seed, device='cpu',
                  threads=torch.get_num_threads(), commit=commit())
    add(HERE/'meta.json', {part: table})
    add(HERE/'claims'/'meta.json', {key: dict(value=value, **origin) for key, value in claims.items()})


def roads(args):
    path = HERE/'meta.json'
    table = json.loads(path.read_text('utf-8')).get('roads', {}) if path.exists() else {}
    ms = table.setdefault('ms', least(list(ROADS.values())))
    for claim, name in ROADS.items():
        cells = table.setdefault(name, {})
        for seed in map(str, SEEDS):
            if seed in cells: continue
            cells[seed] = run(name, int(seed), round(1000*args.seconds/ms[name]), ms[name], 100)
            print(name, seed, cells[seed]['psnr'], flush=True)
            means = {c: round(sum(v['psnr'] for v in table[n].values())/len(table[n]), 2)
                     for c, n in ROADS.items() if table.get(n)}
            keep('roads', table, means, 'mean of ' + ' and '.join(sorted(cells)))


def gain(args):
    "After the same two steps: learned weights, and random ones with the step size that suits them."
    test, table = evaluation_images('photos', 32, 256), {}
    trained = load('image-cavia', 'cpu')
    for k in (0, 1, 2, 3, 5, 10, 20):
        trained.encoder.steps = k
        table[f'learned {k}'] = evaluate(trained, test)['psnr']
    for name in ('image-ipc-cavia-tiny', 'image-learnedinit-tiny'):
        for lr in (.01, .03, .1, .3, 1., 3.):
            torch.manual_seed(0)
            config = row(name)
            config['encoder']['lr'] = lr
            score = evaluate(build(config).eval(), test)['psnr']
            if score is not None: table[f'random {name} {lr}'] = score         # none: it left the numbers
    best = max(v for key, v in table.items() if key.startswith('random'))
    table = {key: round(v, 3) for key, v in table.items()}
    keep('gain', table, dict(meta_gain_db=round(table['learned 2'] - best, 2),
                             image_cavia_psnr=round(table['learned 2'], 2),
                             image_cavia_psnr_10_steps=round(table['learned 10'], 2),
                             random_start_psnr=round(best, 2)))
    print(json.dumps(table, indent=1))


def step(args):
    torch.manual_seed(0)
    model = build('image-ipc-cavia-paper-imagenette')
    opt, images = optimizer(model, model.config['train']), torch.rand(args.batch, 3, 178, 178)
    took = []
    for _ in range(args.runs + 1):
        began = time.perf_counter()
        model.losses(model.encode(images), images).mean().backward()
        opt.step()
        opt.zero_grad()
        took.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    table = dict(seconds=round(sorted(took[1:])[args.runs//2], 2), peak_mb=round(peak), batch=args.batch)
    keep('step', table, dict(cavia_step_seconds=table['seconds'], cavia_step_peak_mb=table['peak_mb']))
    print(table)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('part', choices=['roads', 'gain', 'step'])
    p.add_argument('--seconds', type=float, default=SECONDS, help='of one thread for each training')
    p.add_argument('--batch', type=int, default=2)
    p.add_argument('--runs', type=int, default=3)
    p.add_argument('--threads', type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    dict(roads=roads, gain=gain, step=step)[args.part](args)

if __name__ == '__main__': main()
