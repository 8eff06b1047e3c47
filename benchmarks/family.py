"""Every way of conditioning one coordinate network, on codes of the same photographs with the same budget.

    python benchmarks/family.py                  goes on where benchmarks/family.json ends

16 crops of photographs are learned together: one shared network, one code each, both by Adam. Then the shared
part is frozen and 9 crops of three other photographs get codes. Learning rates of the codes are chosen for
one member of each family with seed 0, by the crops that are learned. Writes family.json beside it after every
run, and at the end benchmarks/claims/family.json.
"""
import argparse
import json
import os
import statistics
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from origin import commit
from torch import nn
from torch.profiler import profile

from instcomp.data.batches import Crops, photos
from instcomp.evaluation.metrics import psnr
from instcomp.fields.coords import grid
from instcomp.fields.fourier import log_spaced
from instcomp.fields.inr import INR
from instcomp.models.codes import code_size
from instcomp.models.ginr import GINR, Columns, FiLM
from instcomp.models.ipc import IPC
from instcomp.models.modulation import (
    FMM,
    SIGMAS,
    Concatenate,
    Excite,
    FromVector,
    Full,
    LowRank,
    Shift,
    mapping,
)
from instcomp.training.loop import cosine, fit

HERE = Path(__file__).parent
COMMAND = 'python benchmarks/family.py'
SETTINGS = dict(steps=200, new=80, side=32, fraction=1/16, hidden=64, lr=3e-3, dim=64)
RATES = (.03, .1, .01)                              # of the codes
BEYOND = {.1: .3, .3: 1., .01: .003, .003: .001}     # tried too where the best stands at the edge
RANKS = (1, 2, 3, 5, 10, 20, 32)
PROTOCOL = ('16 crops, 32x32, of astronaut, rocket, hubble_deep_field and immunohistochemistry, learned '
            'together (200 steps, 1/16 of the pixels each); then 9 crops of retina and both motorcycle '
            'views, codes only, 80 steps; INR of 5 layers, width 64, 64 Fourier features, unit columns; '
            'PSNR over all pixels, unclamped, mean of per-crop values; mean (std) over seeds 0 up')


def head(gain): return partial(mapping, depth=0, gain=gain)          # z is free: a linear map will do


def table():                                         # name -> (family, maker, std of the codes at the start)
    z = SETTINGS['dim']
    vector = lambda make, gain: lambda inr: FromVector(make(inr), z, head(gain))
    direct = {'shift': ('shift', Shift, 0.), 'excite': ('excite', Excite, 0.), 'film': ('film', FiLM, 0.),
              'full': ('full', Full, 0.)}
    direct |= {f'fmm{r}': ('fmm', partial(FMM, rank=r), 1.) for r in RANKS}
    direct |= {f'lowrank{r}': ('lowrank', partial(LowRank, rank=r), 1.) for r in (3, 10)}
    direct |= {f'columns{g}': ('columns', partial(Columns, groups=g), 1.) for g in (1, 4, 16)}
    direct |= {f'ipc{r}': ('ipc', partial(IPC, layer=1, rank=r), 1.) for r in (4, 16, 64)}
    gains = dict(shift=.25, excite=.7, film=.25, full=.05, fmm=.7, lowrank=.7, columns=.7, ipc=.7)
    direct_only = 'fmm2', 'fmm5', 'lowrank3', 'columns1', 'columns16', 'ipc4', 'ipc64'
    keep = [n for n in direct if n not in direct_only]
    rows = {'concatenate64': ('concatenate', partial(Concatenate, dim=z), 1.),
            'concatenate256': ('concatenate', partial(Concatenate, dim=256), 1.)} | direct
    rows |= {f'z_{n}': (f'z_{direct[n][0]}', vector(direct[n][1], gains[direct[n][0]]), 1.) for n in keep}
    for sigma in SIGMAS.keys() - {'sigmoid'}:
        rows[f'z_fmm10_{sigma}'] = ('z_fmm', vector(partial(FMM, sigma=sigma), .7), 1.)
    return dict(sorted(rows.items(), key=lambda item: item[0].endswith(tuple(SIGMAS))))


REPRESENT = dict(concatenate='concatenate64', fmm='fmm10', lowrank='lowrank10', columns='columns4',
                 ipc='ipc16', z_fmm='z_fmm10', z_lowrank='z_lowrank10', z_columns='z_columns4',
                 z_ipc='z_ipc16')


def pictures():
    cut = Crops(photos()).cut                        # astronaut rocket retina hubble tissue motorcycle x 2
    side = SETTINGS['side']
    return (cut(16, side, np.random.default_rng(0), items=[0, 1, 3, 4]*4),
            cut(9, side, np.random.default_rng(1), items=[2, 5, 6]*3))


def pixels(images):
    n = images.shape[-1]
    return grid((n, n)).flatten(0, 1), images.flatten(2).transpose(1, 2), (2/n, 2/n)


def codes(modulator, n, std):                        # one learned code for each of n pictures
    shapes = modulator.code_shape
    shapes = shapes if isinstance(shapes, dict) else {'V': shapes}
    return nn.ParameterDict({k: std*torch.randn(n, *s) for k, s in shapes.items()})


def as_code(codes): return codes['V'] if 'V' in codes else dict(codes.items())


def learn(model, code, images, steps, groups, generator):        # -> PSNR
    part = dict(subsample='shared', fraction=SETTINGS['fraction'], generator=generator)
    loss = lambda i: model.losses(as_code(code), images, **part).sum()
    for _ in fit(loss, torch.optim.Adam(groups), steps, schedule=cosine(steps)): pass
    n = images.shape[-1]
    with torch.no_grad(): y = model.decode(as_code(code), grid((n, n))).movedim(-1, 1)
    return psnr(y, images).mean().item()


def start(make, std, n, seed, normalize=True, hidden=None):      # -> model, codes
    torch.manual_seed(seed)
    hidden = hidden or SETTINGS['hidden']
    inr = INR(log_spaced(2, hidden//2, 16.), hidden=hidden, normalize=normalize, out_bias=.5)
    model = GINR(inr, make(inr), None, pixels)
    return model, codes(model.modulator, n, std)


def groups(model, code, rate):                       # a hypernetwork learns at a tenth of its code's rate
    own = rate/10 if isinstance(model.modulator, FromVector) else SETTINGS['lr']
    rates = [(model.inr, SETTINGS['lr']), (model.modulator, own), (code, rate)]
    parts = [dict(params=[p for p in module.parameters() if p.requires_grad], lr=lr) for module, lr in rates]
    return [part for part in parts if part['params']]


def run(make, std, rate, seed, seen, unseen):        # -> one row
    model, code = start(make, std, len(seen), seed)
    draws = torch.Generator().manual_seed(seed)
    began = time.process_time()
    learned = learn(model, code, seen, SETTINGS['steps'], groups(model, code, rate), draws)
    seconds = (time.process_time() - began)/SETTINGS['steps']
    model.requires_grad_(False)
    new = codes(model.modulator, len(unseen), std)
    found = learn(model, new, unseen, SETTINGS['new'], [dict(params=list(new.parameters()), lr=rate)], draws)
    own = sum(p.numel() for p in model.modulator.parameters())
    return dict(seen=round(learned, 2), unseen=round(found, 2), ms=round(1000*seconds, 1),
                numbers=code_size(model.modulator.code_shape), parameters=own)


def cost(make, std, seen):                           # one training step at the papers' width
    model, code = start(make, std, 16, 0, hidden=256)
    step = lambda: model.losses(as_code(code), seen[:16]).sum().backward()
    step()
    began = time.process_time()
    step()
    seconds = time.process_time() - began
    warnings.filterwarnings('ignore', '.*Profiler clears events')
    with profile(profile_memory=True) as trace: step()
    held = peak = 0
    for event in trace.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return dict(step_seconds=round(seconds, 2), peak_mb=round(peak/2**20, 1),
                numbers_256=code_size(model.modulator.code_shape),
                own_256=sum(p.numel() for p in model.modulator.parameters()))


COSTED = ['concatenate64', 'shift', 'excite', 'film', 'full', 'fmm10', 'lowrank10', 'columns4', 'ipc16',
          'z_shift', 'z_film', 'z_full', 'z_fmm10', 'z_columns4', 'z_ipc16']
STABLE = {'FMM': (FMM, 1.), 'full': (Full, 1.), 'full, start / 100': (Full, .01)}


def norms(make, gain, seed, seen):                   # of the gradient, 200 steps, a hypernetwork of 3 layers
    net = partial(mapping, hidden=64, depth=2, gain=gain)
    model, code = start(lambda inr: FromVector(make(inr), 64, net), 1., len(seen), seed, normalize=False)
    draws = torch.Generator().manual_seed(seed)
    part = dict(subsample='shared', fraction=SETTINGS['fraction'], generator=draws)
    loss = lambda i: model.losses(as_code(code), seen, **part).mean()
    opt = torch.optim.Adam([*model.parameters(), *code.parameters()], 1e-3)
    states = list(fit(loss, opt, 200, clip=float('inf')))
    return dict(norms=[float(f'{s.norm:.3g}') for s in states],
                losses=[float(f'{s.loss:.3g}') for s in states])


class Rows:                                          # the file of results, written whole after every row
    def __init__(self, path):
        self.path, self.rows = path, {}
        if path.exists(): self.rows = json.loads(path.read_text('utf-8'))['rows']
    def get(self, key, make):
        if key not in self.rows:
            self.rows[key] = make()
            print(key, {k: v for k, v in self.rows[key].items() if not isinstance(v, list)}, flush=True)
            self.write({})
        return self.rows[key]
    def write(self, more):
        result = dict(protocol=PROTOCOL, command=COMMAND, settings=SETTINGS) | more | dict(rows=self.rows)
        part = self.path.with_suffix('.part')
        part.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
        os.replace(part, self.path)


def summary(rows, rates, todo):                            # name -> its means, and the standard deviations
    out = {}
    for name, (family, *_) in todo.items():
        keys = [f'{name} rate {rates[family]} seed {s}' for s in range(3)]
        runs = [rows[key] for key in keys if key in rows]
        row = {k: runs[0][k] for k in ('numbers', 'parameters')}
        row |= dict(ms=min(r['ms'] for r in runs), seeds=len(runs))
        for k in 'seen', 'unseen':
            values = [r[k] for r in runs]
            row[k] = round(statistics.mean(values), 2)
            if len(runs) > 1: row[f'{k}_std'] = round(statistics.stdev(values), 2)
        out[name] = row | rows.get(f'{name} cost', {})
    return out


def claims(means, rows, origin):                     # key -> figure with its command
    out = {f'{name}_{k}': dict(value=v, **origin, seed=', '.join('012'[:row['seeds']]))
           for name, row in means.items() for k, v in row.items()}
    for name in STABLE:
        runs = [rows[f'norms {name} seed {s}'] for s in range(3)]
        key = name.replace(', start / ', '_over_').lower()
        figures = {f'norm_{key}_largest': max(max(r['norms']) for r in runs),
                   f'norm_{key}_median': statistics.median(v for r in runs for v in r['norms']),
                   f'loss_{key}_last': round(statistics.mean(r['losses'][-1] for r in runs), 4)}
        out |= {k: dict(value=v, **origin, seed='0, 1, 2') for k, v in figures.items()}
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--out', type=Path, default=HERE/'family.json')
    p.add_argument('--report', action='store_true', help='run nothing, write the means of what there is')
    a = p.parse_args()
    todo, results, (seen, unseen) = table(), Rows(a.out), pictures()
    rates = {}
    for family in dict.fromkeys(family for family, *_ in todo.values()):
        name = REPRESENT.get(family, family)
        attempt = lambda lr: results.get(f'{name} rate {lr} seed 0',
                                         partial(run, *todo[name][1:], lr, 0, seen, unseen))['seen']
        best = max(RATES, key=attempt)
        while best in BEYOND and attempt(BEYOND[best]) > attempt(best): best = BEYOND[best]
        rates[family] = best
    for name in COSTED: results.get(f'{name} cost', partial(cost, *todo[name][1:], seen))
    for seed in range(3):
        for name, (make, gain) in STABLE.items():
            results.get(f'norms {name} seed {seed}', partial(norms, make, gain, seed, seen))
    for seed in range(0 if a.report else 3):
        for name, (family, make, std) in todo.items():
            rate = rates[family]
            results.get(f'{name} rate {rate} seed {seed}', partial(run, make, std, rate, seed, seen, unseen))
    means = summary(results.rows, rates, todo)
    origin = dict(command=COMMAND, device='cpu', threads=torch.get_num_threads(), commit=commit())
    results.write(dict(rates=rates, means=means) | origin)
    if a.out == HERE/'family.json':
        text = json.dumps(claims(means, results.rows, origin), indent=1)
        (HERE/'claims'/'family.json').write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__': main()
