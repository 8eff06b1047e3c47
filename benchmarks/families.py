"""IPC beside TransINR on chairs and lamps, as nvs.py has it for cars: one picture of an unseen object.

    python benchmarks/families.py                      both families, 1,500 steps, seed 0
    python benchmarks/families.py --seeds 0 1 2        three seeds
    python benchmarks/families.py --steps 50 --objects 3 --out try.json     a look

A run that was stopped goes on where it was, a cell that is there is not run again. Writes
benchmarks/families.json and benchmarks/claims/families.json: views_<family>_<method> (mean over objects and
seeds), views_<family>_ipc_ahead (object by object) and half its 95 % interval.
"""
import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import fmean as mean

import torch
from nvs import HERE, one, trained
from origin import commit

from instcomp.evaluation.metrics import interval, psnr
from instcomp.tasks.views import held_out

FAMILIES, METHODS = ('chairs', 'lamps'), ('ipc', 'transinr')
PROTOCOL = ('{n} unseen objects of 12 pictures of 32 x 32; the first shown, the last 6 asked about; full '
            'pictures, mean of per-picture PSNR over pictures, objects, seeds; equal steps ({steps})')


def white(scenes):                                   # what a white picture scores on the same views
    return mean(psnr(torch.ones_like(s.images[6:]), s.images[6:]).mean().item() for s in scenes)


def claims(a, known):
    out = {}
    for family in FAMILIES:
        by = {m: [known[k]['psnr'] for s in a.seeds if (k := f'{family} {m} {s}') in known] for m in METHODS}
        if not all(len(v) == len(a.seeds) for v in by.values()): continue
        objects = {m: [mean(v) for v in zip(*of)] for m, of in by.items()}
        ahead, wide = interval([x - y for x, y in zip(*objects.values())])
        found = {m: mean(v) for m, v in objects.items()} | dict(ipc_ahead=ahead, ipc_ahead_interval=wide)
        out |= {f'views_{family}_{k}': round(v, 3) for k, v in found.items()}
    about = dict(command='python benchmarks/families.py', seed=', '.join(map(str, a.seeds)), device='cpu',
                 threads=1, commit=commit())
    text = json.dumps({k: dict(value=v) | about for k, v in out.items()}, indent=1)
    (HERE/'claims'/'families.json').write_text(text + '\n', 'utf-8')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--seeds', type=int, nargs='*', default=[0])
    p.add_argument('--steps', type=int, default=1500)
    p.add_argument('--objects', type=int, default=25)
    p.add_argument('--runs', type=Path, default=HERE.parent/'runs')
    p.add_argument('--out', type=Path, default=HERE/'families.json')
    a = p.parse_args()
    torch.set_num_threads(1)
    known = json.loads(a.out.read_text('utf-8')) if a.out.exists() else {}
    known['protocol'] = PROTOCOL.format(n=a.objects, steps=f'{a.steps:,}')
    for seed, a.family, method in product(a.seeds, FAMILIES, METHODS):
        key = f'{a.family} {method} {seed}'
        if key in known: continue
        began, runs = time.process_time(), a.runs
        scenes = held_out(a.family, dict(size=32, task={}), a.objects, 0)
        a.runs = runs/a.family
        a.runs.mkdir(parents=True, exist_ok=True)
        known[key] = one(trained(a, method, seed), scenes, 1) | dict(white=white(scenes))
        known[key]['seconds'], a.runs = round(time.process_time() - began, 1), runs
        print(key, round(mean(known[key]['psnr']), 2), known[key]['seconds'], flush=True)
        a.out.write_text(json.dumps(known, indent=1) + '\n', 'utf-8')
        if a.out == HERE/'families.json': claims(a, known)


if __name__ == '__main__': main()
