"""One to five views of cars that were never seen: IPC, TransINR and what they are compared with.

    python benchmarks/nvs.py                      every cell of the table, seeds 0, 1, 2
    python benchmarks/nvs.py --seeds 0            one seed only
    python benchmarks/nvs.py --steps 300          shorter, to look

A run that was stopped goes on where it was, a cell that is there is not run again: runs lie in --runs, cells
in benchmarks/nvs.json. Writes benchmarks/claims/nvs.json: views_ipc, views_transinr (one view, held-out,
mean over seeds and objects), views_1 ... views_5 of the IPC models, tto_gain_db, views_shuffled_init.
"""
import argparse
import json
import subprocess
import time
from pathlib import Path
from statistics import fmean as mean

import torch

from instcomp.learn import learn
from instcomp.metrics import psnr
from instcomp.modulate import write
from instcomp.nvs import evaluate, guess, held_out, interval, protocol, scores
from instcomp.presets import load
from instcomp.views import signal
from instcomp.walk import see

HERE = Path(__file__).parent
PROTOCOL = ('25 unseen cars of 12 pictures of 32 x 32; the first k shown, the last 6 asked about; full '
            'pictures, mean of per-picture PSNR over pictures, objects, seeds; interval over objects')


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    p.add_argument('--steps', type=int, default=1500)
    p.add_argument('--objects', type=int, default=25)
    p.add_argument('--tto', type=int, default=100, help='steps of test-time optimisation')
    p.add_argument('--family', default='cars')
    p.add_argument('--ship', action='store_true', help='the first IPC model into data/weights/cars-ipc')
    p.add_argument('--runs', type=Path, default=HERE.parent/'runs')
    p.add_argument('--out', type=Path, default=HERE/'nvs.json')
    return p.parse_args()


def trained(a, method, seed):                        # a run folder's model
    out = a.runs/f'nvs-{method}-{seed}-{a.steps}'
    name = f'nvs-{method}-tiny-{a.family}'
    a.runs.mkdir(exist_ok=True)
    change = dict(train=dict(seed=seed))
    learn(name, out, None, a.steps, change, device='cpu', precision='fp32', resume=out.exists(), bar=False)
    return load(out, 'cpu')


def one(model, scenes, k, steps=0):                  # decibels of each object, mean depth error
    found = [scores(model, scene, k, 'held-out', steps) for scene in scenes]
    return dict(psnr=[s['psnr'].mean().item() for s in found],
                depth=mean(s['depth_error'] for s in found if s['depth_error'] == s['depth_error']))


def start_over(model, scenes, steps, seed):          # as many steps from another instance's numbers, permuted
    found, rng = [], torch.Generator().manual_seed(seed)
    for i, scene in enumerate(scenes):
        shown, asked = torch.tensor([0]), torch.arange(6, 12)
        given = {k: v[None] for k, v in signal(scene, shown, shown).items()}
        code = guess(model, scenes[(i + 1) % len(scenes)], [0])
        code = code.flatten()[torch.randperm(code.numel(), generator=rng)].view_as(code)
        code = model.refine(code, model.objective(given), steps)
        out = see(model, code, scene.poses[asked], scene.lens, scene.images.shape[-2:])['rgb']
        found.append(psnr(out.permute(0, 3, 1, 2), scene.images[asked]).mean().item())
    return dict(psnr=found)


def main():
    a = arguments()
    torch.set_num_threads(1)
    known = json.loads(a.out.read_text('utf-8')) if a.out.exists() else {}
    known['protocol'] = PROTOCOL
    scenes = held_out(a.family, dict(size=32, task={}), a.objects, 0)

    def keep(key, f):
        if key not in known:
            began = time.process_time()
            known[key] = f() | dict(seconds=round(time.process_time() - began, 1))
            a.out.write_text(json.dumps(known, indent=1) + '\n', 'utf-8')
            print(key, round(mean(known[key]['psnr']), 2), known[key]['seconds'], flush=True)
            claims(a, known)
        return known[key]

    for seed in a.seeds:
        for method in ('ipc', 'transinr'):
            cells = {f'{method} {seed} {a.steps} views {k}': k for k in range(1, 6)}
            extra = f'{method} {seed} {a.steps} tto {a.tto}', f'{method} {seed} {a.steps} shuffled {a.tto}'
            wanted = [*cells, extra[0]] if seed == a.seeds[0] else cells
            if all(c in known for c in wanted): continue
            model = trained(a, method, seed)
            for key, k in cells.items(): keep(key, lambda k=k: one(model, scenes, k))
            if seed == a.seeds[0]: keep(extra[0], lambda: one(model, scenes[:12], 1, a.tto))
            if seed == a.seeds[0] and method == 'ipc':
                keep(extra[1], lambda: start_over(model, scenes[:12], a.tto, seed))
                if a.ship: ship(a, model, scenes, seed)


def ship(a, model, scenes, seed):                    # config.json, model.safetensors, recipe.json
    home, head = HERE.parent/'data'/'weights'/f'{a.family}-ipc', ['git', 'rev-parse', '--short', 'HEAD']
    model.save(home)
    last = json.loads((a.runs/f'nvs-ipc-{seed}-{a.steps}'/'metrics.jsonl').read_text().splitlines()[-1])
    says = protocol(a.family, model.config, len(scenes), 0)
    score = evaluate(model, scenes, protocol=says) | dict(command=f'instcomp eval {home.name} --json')
    recipe = dict(name=home.name, command="python benchmarks/nvs.py --seeds 0 --ship",
                  preset=model.config["preset"],
                  seed=seed, steps=a.steps, batch=model.config['train']['batch'], device='cpu', threads=1,
                  precision='fp32', train_seconds=round(last['seconds']),
                  commit=subprocess.run(head, capture_output=True, text=True).stdout.strip(),
                  data=[dict(what='200 cars of analytic solids, 12 pictures of 32 x 32 each, notebook A18',
                             licence='none needed')], held_out=score)
    write(home, {'recipe.json': (json.dumps(recipe, indent=1) + '\n').encode()})


def claims(a, known):                                # of all seeds that are there
    path, head = HERE/'claims'/'nvs.json', ['git', 'rev-parse', '--short', 'HEAD']
    commit, found = subprocess.run(head, capture_output=True, text=True).stdout.strip(), {}

    def put(key, value, seeds):
        found[key] = dict(value=round(value, 3), command='python benchmarks/nvs.py',
                          seed=', '.join(map(str, seeds)), device='cpu', threads=1, commit=commit)

    def cells(method, what):
        return {s: known[k] for s in range(9) if (k := f'{method} {s} {a.steps} {what}') in known}

    for method in ('ipc', 'transinr'):
        one = cells(method, 'views 1')
        if not one: continue
        objects = [mean(v) for v in zip(*(c['psnr'] for c in one.values()))]
        put(f'views_{method}', mean(objects), one)
        put(f'views_{method}_interval', interval(objects)[1], one)
        put(f'views_{method}_depth_error', mean(c['depth'] for c in one.values()), one)
        if tto := cells(method, f'tto {a.tto}'):
            gains = [mean(c['psnr']) - mean(one[s]['psnr'][:12]) for s, c in tto.items()]
            put('tto_gain_db' if method == 'ipc' else 'tto_gain_db_transinr', mean(gains), tto)
    for k in range(1, 6):
        if c := cells('ipc', f'views {k}'): put(f'views_{k}', mean(mean(v['psnr']) for v in c.values()), c)
    if c := cells('ipc', f'shuffled {a.tto}'):
        put('views_shuffled_init', mean(mean(v['psnr']) for v in c.values()), c)
    path.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
