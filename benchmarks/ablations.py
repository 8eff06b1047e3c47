"""What each part of an instance pattern composer is worth: the presets `ablation-…`, trained for equal time.

    python benchmarks/ablations.py                   goes on where benchmarks/ablations.json ends
    python benchmarks/ablations.py --only location   one of: location, methods, parts, plain, gradient, wide

Each row trains on crops of the offline photographs, on one thread, for as many steps as fit into its time at
the least time that a step of it took; the learning rate ends at zero there. On the way it is scored on 64
crops of two photographs that it never sees, and on 32 crops of those it does. Then the shared weights are
fixed and 16 unseen crops get their codes by Adam, from the prediction on, in as many steps within a table
(so `parts` trains its base, `ablation-layer2`, once more). Writes ablations.json beside it after every run,
and benchmarks/claims/ablations.json at the end; a claim that stays as it was keeps its commit.
"""
import argparse
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from origin import commit

from instcomp.data.batches import Batches, Crops, photos
from instcomp.data.datasets import evaluation_images
from instcomp.evaluation.metrics import psnr
from instcomp.experiments.builder import build, resolve
from instcomp.experiments.catalog import row
from instcomp.models.codes import code_size
from instcomp.tasks.image import reconstruct_images
from instcomp.training.loop import fit
from instcomp.training.trainer import Objective, optimizer, train

HERE = Path(__file__).parent
COMMAND = 'python benchmarks/ablations.py'
AT = range(1, 6)
PARTS = ['layer2',                                     # the base, refined for as long as the others
         'rank2', 'rank8', 'rank64', 'full', 'grouped', 'transinr', 'film', 'unnormalised', 'centres']
TABLES = {  # rows, seconds of one thread for each training, seeds, steps of refinement
    'location': ([f'ablation-layer{k}' for k in AT], 60, (0, 1, 2), 600),
    'methods':  (['image-ipc-tiny', 'image-transinr-tiny'], 60, (0, 1, 2), 200),
    'parts':    ([f'ablation-{name}' for name in PARTS], 60, (0, 1), 200),
    'plain':    ([f'ablation-plain-layer{k}' for k in AT], 60, (0,), 200),
    'gradient': ([f'ablation-cavia{k}' for k in ('1', '2', '4', '2-big')], 60, (0,), 200),
    'wide':     ([f'ablation-wide-layer{k}' for k in AT], 100, (0,), 300),
}
PROTOCOL = ('square crops of the 7 offline photographs, area-averaged, one thread; equal seconds within a '
            'table; PSNR (peak 1, unclamped, mean of per-crop values) on 64 seeded crops of chelsea and '
            'coffee; refined: 16 of these, Adam on the codes, shared weights fixed; mean over the seeds')


def crops(config, steps, seed):
    t = config['train']
    return Batches(Crops(photos(), augment=True), config['size'], t['batch'], seed, steps=steps)


def stepper(name):                                    # one training step of a row, its batch included
    config = resolve(row(name))
    model, batches, t = build(config), crops(config, 10_000, 0), config['train']
    objective = Objective(model, t['noise'], t['subsample'], t['fraction'])
    steps = fit(lambda i: objective(batches[i]).mean(), optimizer(model, t), 10_000, clip=t['clip'])
    return lambda: next(steps)


def least(names, rounds=8):                           # milliseconds of a step; in turn: processors drift
    take, times = {name: stepper(name) for name in names}, {name: [] for name in names}
    for _ in range(rounds):
        for name, step in take.items():
            began = time.process_time()
            step()
            times[name].append(1000*(time.process_time() - began))
    return {name: round(min(t), 2) for name, t in times.items()}


def score(model, images): return psnr(reconstruct_images(model, images), images).mean().item()


def refined(model, images, steps):                    # PSNR before each step, and after the last
    trace = []
    def watched(code):
        losses = model.losses(code, images)
        trace.append(-10*losses.detach().log10().mean().item())
        return losses
    with torch.no_grad(): code = model.encode(images)
    code = model.refine(code, watched, steps)
    with torch.no_grad(): watched(code)
    return trace


def run(name, seed, steps, ms, more):                 # -> one cell of the table
    change = dict(train=dict(steps=steps, seed=seed, every=max(1, steps//20)))
    config = resolve(dict(preset=name) | row(name), change)
    size, unseen = config['size'], evaluation_images('photos', config['size'], 64)
    seen = evaluation_images(Crops(photos()), size, 32, 1)
    torch.manual_seed(seed)
    model = build(config)
    began = time.process_time()
    with TemporaryDirectory() as home:
        out = Path(home)/'run'
        train(model, model.config, crops(config, steps, seed), out, lambda m: dict(psnr=score(m, unseen),
              seen=score(m, seen)), device='cpu', precision='fp32', bar=False)
        log = [json.loads(line) for line in (out/'metrics.jsonl').read_text('utf-8').splitlines()]
    busy = time.process_time() - began
    trace = refined(model.eval().requires_grad_(False), unseen[:16], more)
    return dict(steps=steps, ms=ms, busy=round(busy, 1), refine_steps=more,
                numbers=code_size(model.modulator.code_shape),
                parameters=sum(p.numel() for p in model.parameters()),
                psnr=round(log[-1]['psnr'], 3), seen=round(log[-1]['seen'], 3),
                start=round(trace[0], 3), refined=round(trace[-1], 3),
                curve=[[round(l['step']*ms/1000, 2), round(l['psnr'], 3), round(l['seen'], 3)] for l in log],
                refining=[[i, round(trace[i], 3)] for i in range(0, more + 1, 20)])


class Results:                                        # the file, written whole after every cell
    def __init__(self, path):
        self.path, self.tables, self.ms = path, {}, {}
        self.read()

    def read(self):                                   # another table may have been written meanwhile
        if not self.path.exists(): return
        kept = json.loads(self.path.read_text('utf-8'))
        self.tables, self.ms = kept['tables'], kept['ms'] | self.ms

    def write(self):
        self.origin = dict(command=COMMAND, device='cpu', threads=torch.get_num_threads(), commit=commit())
        text = json.dumps(dict(protocol=PROTOCOL, **self.origin, ms=self.ms, means=self.means(),
                               tables=self.tables), indent=1)
        part = self.path.with_suffix('.part')
        part.write_text(text + '\n', encoding='utf-8')
        os.replace(part, self.path)

    def cell(self, table, name, seed, seconds, more):
        "One run, unless it is there."
        if str(seed) in self.tables.get(table, {}).get(name, {}): return
        new = run(name, seed, round(1000*seconds/self.ms[name]), self.ms[name], more)
        print(table, name, seed, {k: v for k, v in new.items() if not isinstance(v, list)}, flush=True)
        self.read()
        self.tables.setdefault(table, {}).setdefault(name, {})[str(seed)] = new
        self.write()

    def means(self):
        "table -> row -> means over the seeds, and the spread."
        out = {}
        for table, rows in self.tables.items():
            for name in [n for n in TABLES[table][0] if n in rows]:
                cells, runs = rows[name], list(rows[name].values())
                mean = lambda k: round(statistics.mean(r[k] for r in runs), 2)
                one = dict(numbers=runs[0]['numbers'], steps=runs[0]['steps'], seeds=', '.join(cells))
                one |= {k: mean(k) for k in ('psnr', 'seen', 'refined')}
                for k in ('psnr', 'refined') if len(runs) > 1 else ():
                    one[f'{k}_std'] = round(statistics.stdev(r[k] for r in runs), 2)
                out.setdefault(table, {})[name] = one
        return out

    def claims(self):
        "key -> figure with its command."
        means, out = self.means(), {}
        def keep(key, table, name, what):
            if name in means.get(table, {}):
                one = means[table][name]
                if what in one: out[key] = dict(value=one[what], **self.origin, seed=one['seeds'])
        for k in AT:
            for what, key in (('psnr', 'psnr'), ('refined', 'refined_psnr'), ('seen', 'seen_psnr'),
                              ('psnr_std', 'psnr_std'), ('refined_std', 'refined_psnr_std')):
                keep(f'location_{key}_{k}', 'location', f'ablation-layer{k}', what)
                keep(f'location_wide_{key}_{k}', 'wide', f'ablation-wide-layer{k}', what)
                keep(f'location_plain_{key}_{k}', 'plain', f'ablation-plain-layer{k}', what)
        for method in 'ipc', 'transinr':
            for what, key in (('psnr', ''), ('psnr_std', '_std'), ('refined', '_refined')):
                keep(f'images_{method}{key}', 'methods', f'image-{method}-tiny', what)
        for part in PARTS:
            for what in 'psnr', 'refined': keep(f'ablation_{part}_{what}', 'parts', f'ablation-{part}', what)
        for k in '1', '2', '4', '2-big':
            for what in 'psnr', 'refined':
                keep(f'ablation_cavia{k.replace("-", "_")}_{what}', 'gradient', f'ablation-cavia{k}', what)
        return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--only', choices=TABLES, help='one table')
    p.add_argument('--seeds', type=int, default=3, help='at most so many')
    p.add_argument('--out', type=Path, default=HERE/'ablations.json')
    a = p.parse_args()
    results = Results(a.out)
    for table in [a.only] if a.only else TABLES:
        names, seconds, seeds, more = TABLES[table]
        fresh = [name for name in names if name not in results.ms]
        if fresh: results.ms |= least(fresh)
        for seed in seeds[:a.seeds]:
            for name in names: results.cell(table, name, seed, seconds, more)
    results.write()
    if a.out == HERE/'ablations.json':
        path = HERE/'claims'/'ablations.json'
        new, old = results.claims(), json.loads(path.read_text('utf-8'))
        same = lambda key: all(old.get(key, {}).get(k) == new[key][k] for k in ('value', 'seed'))
        new = {key: old[key] if same(key) else claim for key, claim in new.items()}
        path.write_text(json.dumps(new, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__': main()
