"""What a new view costs: decibels against seconds, for predicted fields of cars that were never seen.

    python benchmarks/curve.py                      the shipped model, six views of six cars at 128 x 128
    python benchmarks/curve.py --model runs/mine    another one

Rows: even samples; a second round where the first found something; and both again with air skipped by a grid
that was asked once for each car (its time is counted) and rays dropped when nothing shines through any more.
All rows take turns, car by car; seconds are processor seconds for one view on one thread. Writes curve.json
beside it and benchmarks/claims/curve.json.
"""
import argparse
import json
import time
from pathlib import Path
from statistics import fmean as mean

import torch
from origin import commit

from instcomp.evaluation.metrics import psnr
from instcomp.experiments.builder import load
from instcomp.geometry.rendering import occupied_cells
from instcomp.models.radiance import instance_field, render_views
from instcomp.tasks.views import encode_views, held_out

HERE = Path(__file__).parent
EVEN = {f'even {n}': dict(n=n) for n in (8, 16, 32, 64, 128, 256)}
TWICE = {f'twice {n}+{n}': dict(n=n, fine=n) for n in (8, 16, 32, 64)}
SKIP = dict(n=32, extent=1.1, least=.05, asks=1)
PROTOCOL = ('{n} unseen cars, one picture of {size} x {size} shown, pictures 6 to 11 rendered at 128 x 128; '
            'mean PSNR, peak 1, unclamped: to the true pictures, and to the same field with 512 samples')


def one(model, code, poses, lens, how, skip):        # pictures (V, 128, 128, 3), seconds for each
    began = time.process_time()
    cells = occupied_cells(instance_field(model, code), **SKIP) if skip else None
    how = how | (dict(cells=cells, stop=1e-3) if skip else {})
    seen = render_views(model, code, poses, lens, (128, 128), **how)
    return seen['rgb'].permute(0, 3, 1, 2), (time.process_time() - began)/len(poses)


def table(model, n):                                 # row -> decibels to both references, seconds
    config = model.config
    small, large = (held_out('cars', config | dict(size=size), n, 0) for size in (config['size'], 128))
    rows = {f'{name}{", skipped" if skip else ""}': (how, skip)
            for skip in (False, True) for name, how in (EVEN | TWICE).items()}
    found = {name: [] for name in rows}
    for shown, true in zip(small, large):
        code, asked = encode_views(model, shown, [0]), slice(6, 12)
        best = one(model, code, true.poses[asked], true.lens, dict(n=512), False)[0]
        for name, (how, skip) in rows.items():
            made, seconds = one(model, code, true.poses[asked], true.lens, how, skip)
            level, same = (psnr(made, other).mean().item() for other in (true.images[asked], best))
            found[name].append((level, same, seconds))
    means = {name: [round(mean(v), 4) for v in zip(*cells)] for name, cells in found.items()}
    return {name: dict(zip(('psnr', 'to_best', 'seconds'), v)) for name, v in means.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', default='cars-ipc')
    p.add_argument('--objects', type=int, default=6)
    a = p.parse_args()
    torch.set_num_threads(1)
    model = load(a.model, 'cpu')
    rows = table(model, a.objects)
    for name, row in rows.items(): print(f'{name:24}', row, flush=True)
    says = PROTOCOL.format(n=a.objects, size=model.config['size'])
    text = json.dumps(dict(protocol=says, rows=rows), indent=1)
    (HERE/'curve.json').write_text(text + '\n', 'utf-8')
    origin = dict(command='python benchmarks/curve.py', seed=0, device='cpu', threads=1, commit=commit())
    even, quick = rows['even 128'], rows['even 128, skipped']
    said = dict(curve_skip_ratio=even['seconds']/quick['seconds'],
                curve_skip_loss_db=even['psnr'] - quick['psnr'])
    said = {key: dict(value=round(value, 3), **origin) for key, value in said.items()}
    (HERE/'claims'/'curve.json').write_text(json.dumps(said, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
