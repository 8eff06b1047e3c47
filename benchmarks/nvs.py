"""One to five views of cars that were never seen: IPC, TransINR and what they are compared with.

    python benchmarks/nvs.py                      every cell of the table, seeds 0, 1, 2
    python benchmarks/nvs.py --seeds 0            one seed only
    python benchmarks/nvs.py --steps 300          shorter, to look
    python benchmarks/nvs.py --gain 2 8           only: what it does how large the colours are in a token

A run that was stopped goes on where it was, a cell that is there is not run again: runs lie in --runs, cells
in benchmarks/nvs.json. Writes benchmarks/claims/nvs.json: views_ipc, views_transinr (one view, held-out,
mean over seeds and objects), views_1 ... views_5 of the IPC models, tto_gain_db, views_shuffled_init (as many
steps of test-time optimisation, from another object's numbers in random order), views_learned_init (two steps
on all matrices from a learned start, trained for equal time) and views_learned_init_tto (then --tto steps).
views_start_learned, views_start_matched and views_start_shuffled are the same model's matrices after --tto
steps from that start, from noise fitted until it draws the same, and from its numbers in random order; each
with the step size out of RATES that is best on six validation cars.
"""
import argparse
import json
import time
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import fmean as mean

import torch
from origin import commit

from instcomp.data.scenes import scene_signal
from instcomp.evaluation.metrics import interval, psnr
from instcomp.experiments.builder import load
from instcomp.experiments.run import train_preset
from instcomp.models.meta import matched_code, shuffled_code
from instcomp.models.radiance import render_views
from instcomp.tasks.views import encode_views, held_out, score_scene, source

HERE = Path(__file__).parent
PROTOCOL = ('25 unseen cars of 12 pictures of 32 x 32; the first k shown, the last 6 asked about; full '
            'pictures, mean of per-picture PSNR over pictures, objects, seeds; interval over objects')
NAMES = dict(ipc='ipc', transinr='transinr', learnedinit='learned_init')          # row -> claim
SHARE = dict(learnedinit=.4)                         # of the steps: one takes 2.5 times as long
RATES = .0005, .002, .008                            # of Adam on all matrices


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    p.add_argument('--steps', type=int, default=1500)
    p.add_argument('--objects', type=int, default=25)
    p.add_argument('--tto', type=int, default=100, help='steps of test-time optimisation')
    p.add_argument('--gain', type=float, nargs='*', default=[], help='of the colours, 600 steps each')
    p.add_argument('--family', default='cars')
    p.add_argument('--runs', type=Path, default=HERE.parent/'runs')
    p.add_argument('--out', type=Path, default=HERE/'nvs.json')
    return p.parse_args()


def trained(a, method, seed, gain=None):             # a run folder's model
    out, steps = a.runs/f'nvs-{method}-{seed}-{a.steps}', round(SHARE.get(method, 1)*a.steps)
    name = f'nvs-{method}-tiny-{a.family}'
    a.runs.mkdir(exist_ok=True)
    change = dict(train=dict(seed=seed))
    if gain: out, steps, change = Path(f'{out}-gain-{gain}'), 600, change | dict(encoder=dict(gain=gain))
    how = dict(device='cpu', precision='fp32', resume=out.exists(), bar=False)
    train_preset(name, out, None, steps, change, **how)
    return load(out, 'cpu')


def one(model, scenes, k, steps=0):                  # decibels of each object, mean depth error
    found = [score_scene(model, scene, k, 'held-out', steps) for scene in scenes]
    return dict(psnr=[s['psnr'].mean().item() for s in found],
                depth=mean(s['depth_error'] for s in found if s['depth_error'] == s['depth_error']))


def at_random(model, scenes, passes):                # one picture shown, another asked about, drawn anew
    draw = torch.Generator().manual_seed(0)
    once = lambda scene: score_scene(model, scene, 1, 'random', draw=draw)['psnr'].mean().item()
    return dict(psnr=[mean(once(scene) for _ in range(passes)) for scene in scenes])


def start_over(model, scenes, codes, steps, **how):  # test-time optimisation from given codes
    found = []
    for scene, code in zip(scenes, codes):
        shown, asked = torch.tensor([0]), torch.arange(6, 12)
        given = {k: v[None] for k, v in scene_signal(scene, shown, shown).items()}
        code = partial(model.refine, **how)(code, model.objective(given), steps)
        out = render_views(model, code, scene.poses[asked], scene.lens, scene.images.shape[-2:])['rgb']
        found.append(psnr(out.permute(0, 3, 1, 2), scene.images[asked]).mean().item())
    return dict(psnr=found)


def others(model, scenes, seed):                     # another instance's numbers in random order, for each
    rng = torch.Generator().manual_seed(seed)
    for i in range(len(scenes)):
        yield shuffled_code(encode_views(model, scenes[(i + 1) % len(scenes)], [0]), rng)


@cache                                               # the matched one takes 300 steps
def starts(model, scene, seed):                      # of all matrices
    rng, learned, shape = torch.Generator().manual_seed(seed), model.encoder.begin(1), scene.images.shape[-2:]
    with torch.no_grad(): drawn = render_views(model, learned, scene.poses, scene.lens, shape)['rgb']
    drawn = drawn.permute(0, 3, 1, 2)
    rays = torch.randperm(drawn[:, 0].numel(), generator=rng)[:2048]
    given = scene_signal(scene._replace(images=drawn), torch.tensor([0]), torch.arange(len(drawn)), rays)
    same = matched_code(learned, model.objective({k: v[None] for k, v in given.items()}), 300, rng)
    return dict(learned=learned, matched=same, shuffled=shuffled_code(learned, rng))


def from_start(model, scenes, known, code, steps):   # at the step size that is best for cars of validation
    tried = {lr: mean(start_over(model, known, [code]*len(known), steps, lr=lr)['psnr']) for lr in RATES}
    lr = max(tried, key=tried.get)
    return start_over(model, scenes, [code]*len(scenes), steps, lr=lr) | dict(lr=lr, tried=tried)


def main():
    a = arguments()
    torch.set_num_threads(1)
    known = json.loads(a.out.read_text('utf-8')) if a.out.exists() else {}
    known['protocol'] = PROTOCOL
    row = dict(size=32, task={})
    scenes, known_cars = held_out(a.family, row, a.objects, 0), source(a.family, 'val', row).scenes
    known_cars = [known_cars[i] for i in range(6)]

    def keep(key, f):
        if key not in known:
            began = time.process_time()
            known[key] = f() | dict(seconds=round(time.process_time() - began, 1))
            a.out.write_text(json.dumps(known, indent=1) + '\n', 'utf-8')
            print(key, round(mean(known[key]['psnr']), 2), known[key]['seconds'], flush=True)
            claims(a, known)
        return known[key]

    for gain in a.gain:
        key = f'ipc {a.seeds[0]} 600 gain {gain}'
        if key not in known: keep(key, partial(one, trained(a, 'ipc', a.seeds[0], gain), scenes, 1))
    for method, seed in () if a.gain else product(NAMES, a.seeds):
        cells = {f'views {k}': lambda model, k=k: one(model, scenes, k) for k in range(1, 6)}
        cells[f'tto {a.tto}'] = lambda model: one(model, scenes[:12], 1, a.tto)
        if seed == a.seeds[0]: cells['random 100'] = lambda model: at_random(model, scenes, 100)
        for name in ('learned', 'matched', 'shuffled') if method == 'learnedinit' else ():
            cells[f'start {name}'] = lambda model, name=name: from_start(
                model, scenes[:12], known_cars, starts(model, known_cars[0], seed)[name], a.tto)
        if method != 'learnedinit':
            cells[f'shuffled {a.tto}'] = lambda model: start_over(
                model, scenes[:12], others(model, scenes[:12], seed), a.tto)
        cells = {f'{method} {seed} {a.steps} {key}': f for key, f in cells.items()}
        if set(cells) <= set(known): continue
        model = trained(a, method, seed)
        for key, f in cells.items(): keep(key, partial(f, model))


def claims(a, known):                                # of all seeds that are there
    path, found = HERE/'claims'/'nvs.json', {}

    def put(key, value, seeds):
        found[key] = dict(value=round(value, 3), command='python benchmarks/nvs.py',
                          seed=', '.join(map(str, seeds)), device='cpu', threads=1, commit=commit())

    def cells(method, what):
        return {s: known[k] for s in range(9) if (k := f'{method} {s} {a.steps} {what}') in known}

    for method, name in NAMES.items():
        one = cells(method, 'views 1')
        if not one: continue
        objects = [mean(v) for v in zip(*(c['psnr'] for c in one.values()))]
        put(f'views_{name}', mean(objects), one)
        put(f'views_{name}_interval', interval(objects)[1], one)
        put(f'views_{name}_depth_error', mean(c['depth'] for c in one.values()), one)
        if drawn := cells(method, 'random 100'):
            put(f'views_{name}_random', mean(mean(c['psnr']) for c in drawn.values()), drawn)
        if tto := cells(method, f'tto {a.tto}'):
            gains = [mean(c['psnr']) - mean(one[s]['psnr'][:12]) for s, c in tto.items()]
            put('tto_gain_db' if method == 'ipc' else f'tto_gain_db_{name}', mean(gains), tto)
            put(f'views_{name}_tto', mean(mean(c['psnr']) for c in tto.values()), tto)
    for k in range(1, 6):
        if c := cells('ipc', f'views {k}'): put(f'views_{k}', mean(mean(v['psnr']) for v in c.values()), c)
    both = [cells(method, 'views 1') for method in ('ipc', 'transinr')]
    if (seeds := sorted(both[0].keys() & both[1].keys())):
        per = [[mean(v) for v in zip(*(of[s]['psnr'] for s in seeds))] for of in both]
        ahead, wide = interval([x - y for x, y in zip(*per)])
        put('views_ipc_ahead', ahead, seeds)
        put('views_ipc_ahead_interval', wide, seeds)
    for seed, gain in ((s, g) for s in range(9) for g in (2., 8.)):
        if (key := f'ipc {seed} 600 gain {gain}') in known:
            put(f'views_gain_{gain:.0f}', mean(known[key]['psnr']), [seed])
    for name in 'learned', 'matched', 'shuffled':
        if c := cells('learnedinit', f'start {name}'):
            put(f'views_start_{name}', mean(mean(v['psnr']) for v in c.values()), c)
    for method, name in dict(ipc='views_shuffled_init', transinr='views_shuffled_init_transinr').items():
        if c := cells(method, f'shuffled {a.tto}'): put(name, mean(mean(v['psnr']) for v in c.values()), c)
    path.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
