"""Beside the official code, turn by turn: steps and predictions, in fp32 and bf16.

    python benchmarks/ratios.py --peer FOLDER [step] [predict] [cavia] [views]    two idle cores, 15 minutes

FOLDER is a checkout of kakaobrain/ginr-ipc (135f55c); its code is only called; it wants einops and omegaconf
2.4. The official code computes in fp32 (its `amp: True` changes nothing); ours in fp32 and in bf16,
attention by the faster road of a trial, as a run with `--precision auto` finds it. CelebA's and Imagenette's
rows of the paper, batch 4, all coordinates; views as in official.py. Every round gives one ratio, the claim
is their median. Each kind of work has a process of its own: after other work the official prediction took a
fifth less (probably large tensors then find memory that the process already has).
Writes benchmarks/claims/speed.json.
"""
import argparse
import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from bench import PAPER, machine, predict, training
from official import batch, peer, steps
from origin import add, commit

from instcomp.experiments.builder import build
from instcomp.models.attention import ROADS
from instcomp.training.device import Way

HERE, CPU = Path(__file__).parent, torch.device('cpu')
HOME = 'src.models.generalizable_INR.'
CELEBA = (HOME + 'low_rank_modulated_transinr.LowRankModulatedTransINR',
          'image/low_rank_modulated_transinr/celeba178_low_rank_modulated_transinr')
IMAGENETTE = (HOME + 'meta_low_rank_modulated_inr.MetaLowRankModulatedINR',
              'meta_learning/low_rank_modulated_meta/imagenette178_meta_low_rank')
KEYS = dict(step='train_step_ratio', predict='inference_ratio', cavia='cavia_step_ratio',
            views='views_step_ratio')


def pictures(): return torch.rand(4, 3, 178, 178, generator=torch.Generator().manual_seed(0))


def their_training(model):
    images, opt = pictures(), torch.optim.Adam(model.train().parameters(), lr=1e-4)
    def job():
        model.zero_grad(set_to_none=True)
        out = model(images, model.sample_coord_input(images))
        model.compute_loss(out if torch.is_tensor(out) else out[0], images)['loss_total'].backward()
        opt.step()
    return job


def their_prediction(model):
    images, model = pictures(), model.eval()
    @torch.no_grad()
    def job(): model(images, model.sample_coord_input(images))
    return job


def sides(name, folder):
    "The official job, and ours: Way -> None."
    if name == 'views':
        theirs = peer(folder)
        model = build(PAPER['views'])
        return steps(4, theirs)['official'], training(model, batch(4)[0], CPU)
    if name == 'predict': return their_prediction(peer(folder, *CELEBA)), predict(PAPER, CPU)
    theirs = their_training(peer(folder, *(CELEBA if name == 'step' else IMAGENETTE)))
    return theirs, training(build(PAPER[name]), pictures(), CPU)


def clock(f):
    "Seconds by the wall, seconds of the processor."
    wall, cpu = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter() - wall, time.process_time() - cpu


def beside(name, folder, rounds, which):
    "Medians and ratios of one kind of work; `which`: 0 by the wall, 1 by the processor's time."
    theirs, ours = sides(name, folder)
    jobs = dict(official=theirs)
    for precision in ('fp32', 'bf16'):
        tried = {}
        for road in ROADS:
            ours(Way(precision, road))
            tried[road] = min(clock(lambda p=precision, r=road: ours(Way(p, r)))[which] for _ in range(3))
        way = Way(precision, min(tried, key=tried.get))
        jobs[precision], jobs[precision].way = lambda way=way: ours(way), way
    rows = [{key: clock(job)[which] for key, job in jobs.items()} for _ in range(rounds + 1)][1:]
    out = {key: dict(seconds=statistics.median(row[key] for row in rows)) for key in jobs}
    for precision in ('fp32', 'bf16'):
        out[precision] |= dict(attention=jobs[precision].way.attention,
                               ratio=statistics.median(row['official']/row[precision] for row in rows))
    return out


def measure(a, name):
    "One kind of work: say what was found, keep its claims."
    torch.set_num_threads(a.threads)
    found = beside(name, a.peer, a.rounds, int(a.busy))
    print(name, json.dumps(found | dict(load=os.getloadavg()[0])), flush=True)
    if a.busy: return
    said = machine(CPU)
    where = dict(command='python benchmarks/ratios.py --peer FOLDER', seed=0, device='cpu', threads=a.threads,
                 commit=commit(), processor=said['processor'], bf16_units=said['bf16_units'],
                 torch=said['torch'])
    claims = {f'{KEYS[name]}_{p}': dict(value=round(found[p]['ratio'], 2), **where) for p in ('fp32', 'bf16')}
    add(HERE/'claims'/'speed.json', claims)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('names', nargs='*', help=f'of {", ".join(KEYS)}; default: all')
    p.add_argument('--peer', type=Path, required=True)
    p.add_argument('--rounds', type=int, default=9)
    p.add_argument('--threads', type=int, default=torch.get_num_threads())
    p.add_argument('--busy', action='store_true', help="the processor's time on a busy machine; not kept")
    a = p.parse_args()
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as each:       # a process of its own: see above
        for name in a.names or KEYS: each.submit(measure, a, name).result()


if __name__ == '__main__': main()
