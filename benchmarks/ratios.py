"""Beside the official code, turn by turn: steps and predictions, in fp32 and bf16.

    python benchmarks/ratios.py --peer FOLDER [step] [predict] [cavia] [views]    two idle cores, 15 minutes

FOLDER is a checkout of kakaobrain/ginr-ipc (135f55c); its code is only called; it wants einops and omegaconf
2.4. The official code computes in fp32 (its `amp: True` changes nothing); ours in fp32 and in bf16,
attention by the faster road of a trial, as a run with `--precision auto` finds it. CelebA's and Imagenette's
rows of the paper, batch 4, all coordinates; views as in official.py. Every round gives one ratio, the claim
is their median. Each side has a process of its own, as its user has: in a common one the official code finds
memory that ours has left, and the other way round. Training, ours begins with `keep_memory()`, as
`instcomp train` does; `--keep both` and `--keep neither` say how much of a ratio that is.
Writes benchmarks/claims/speed.json.
"""
import argparse
import json
import multiprocessing
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from bench import COMPARED, PAPER, machine, predict, training
from official import batch, clock, peer, steps
from origin import add, commit

from instcomp.experiments.builder import build
from instcomp.models.attention import ROADS
from instcomp.training.device import Way, keep_memory

HERE, CPU = Path(__file__).parent, torch.device('cpu')
HOME = 'src.models.generalizable_INR.'
CELEBA = (HOME + 'low_rank_modulated_transinr.LowRankModulatedTransINR',
          'image/low_rank_modulated_transinr/celeba178_low_rank_modulated_transinr')
IMAGENETTE = (HOME + 'meta_low_rank_modulated_inr.MetaLowRankModulatedINR',
              'meta_learning/low_rank_modulated_meta/imagenette178_meta_low_rank')


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


def theirs(name, folder):
    "The official job."
    if name == 'views': return steps(4, peer(folder))['official']
    if name == 'predict': return their_prediction(peer(folder, *CELEBA))
    return their_training(peer(folder, *(CELEBA if name == 'step' else IMAGENETTE)))


def ours(name):
    "Our job: Way -> None."
    if name == 'predict': return predict(PAPER, CPU)
    signal = batch(4)[0] if name == 'views' else pictures()
    return training(build(PAPER[name]), signal, CPU)


def begin(side, name, folder, threads, kept):
    "In a process of its own: make one side's job."
    torch.set_num_threads(threads)
    if kept: keep_memory()
    global JOB
    JOB = theirs(name, folder) if side == 'official' else ours(name)


def turn(side, way, busy):
    "Seconds of one call, by the wall or of the processor."
    return clock(JOB if side == 'official' else lambda: JOB(way))[int(busy)]


def process(side, name, a):
    "A process that has one side's job: Way -> seconds."
    kept = dict(both=True, neither=False, ours=side == 'ours' and name != 'predict')[a.keep]
    pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), begin,
                               (side, name, a.peer, a.threads, kept))
    return lambda way=None: pool.submit(turn, side, way, a.busy).result()


def beside(name, a):
    "Medians and ratios of one kind of work."
    official, mine, ways = process('official', name, a), process('ours', name, a), {}
    for precision in ('fp32', 'bf16'):
        trial = [{road: mine(Way(precision, road)) for road in ROADS} for _ in range(5)][1:]
        ways[precision] = Way(precision, min(ROADS, key=lambda road: min(row[road] for row in trial)))
    rounds = [dict(official=official()) | {p: mine(way) for p, way in ways.items()}
              for _ in range(a.rounds + 1)][1:]
    out = {key: dict(seconds=statistics.median(row[key] for row in rounds)) for key in rounds[0]}
    for precision, way in ways.items():
        of_each = [row['official']/row[precision] for row in rounds]
        out[precision] |= dict(attention=way.attention, ratio=statistics.median(of_each), ratios=of_each)
    return out


def measure(name, a):
    "One kind of work: say what was found, keep its claims."
    found = beside(name, a)
    print(name, json.dumps(found | dict(load=os.getloadavg()[0])), flush=True)
    if a.busy: return
    said = machine(CPU)
    more, end = ('', '') if a.keep == 'ours' else (f' --keep {a.keep}', f'_{a.keep}')
    where = dict(command=f'python benchmarks/ratios.py --peer FOLDER{more}', seed=0, device='cpu',
                 threads=a.threads, commit=commit(), processor=said['processor'],
                 bf16_units=said['bf16_units'], torch=said['torch'])
    claims = {f'{COMPARED[name]}_{p}{end}': dict(value=round(found[p]['ratio'], 2), **where)
              for p in ('fp32', 'bf16')}
    add(HERE/'claims'/'speed.json', claims)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('names', nargs='*', help=f'of {", ".join(COMPARED)}; default: all')
    p.add_argument('--peer', type=Path, required=True)
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--threads', type=int, default=torch.get_num_threads())
    p.add_argument('--busy', action='store_true', help="the processor's time on a busy machine; not kept")
    p.add_argument('--keep', choices=['ours', 'both', 'neither'], default='ours', help='whose memory')
    a = p.parse_args()
    for name in a.names or COMPARED: measure(name, a)


if __name__ == '__main__': main()
