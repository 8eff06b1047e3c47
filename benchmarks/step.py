"""Seconds of one training step and of one prediction at the paper's CelebA-178 configuration: batch 4, all
coordinates, no coordinate noise, dropout 0.1. Run: python benchmarks/step.py [--runs 3] [--device cpu]
"""
import argparse
import json
from contextlib import nullcontext
from pathlib import Path

import torch
from bench import clocked

from instcomp.experiments.builder import build
from instcomp.fields.coords import grid
from instcomp.training.device import DTYPES, device_of, precision_of
from instcomp.training.trainer import optimizer


def measure(method, precision, device, runs):
    "One row: a preset's method at one precision."
    torch.manual_seed(0)
    model = build(f'image-{method}-paper-celeba', device)
    opt, images = optimizer(model, model.config['train']), torch.rand(4, 3, 178, 178, device=device)
    lower = lambda: torch.autocast(device.type, DTYPES[precision]) if precision != 'fp32' else nullcontext()
    def step():
        with lower(): loss = model.losses(model.encode(images), images).mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
    def predict():
        with torch.no_grad(), lower(): model(images, grid((178, 178), device=device))
    model.train()
    train = clocked(step, device, runs)
    model.eval()
    return dict(train=train, predict=clocked(predict, device, runs))

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--runs', type=int, default=3)
    p.add_argument('--device')
    args = p.parse_args()
    device = device_of(args.device)
    precisions = sorted({'fp32', precision_of('auto', device)})
    rows = {f'{method} {precision}': measure(method, precision, device, args.runs)
            for method in ('ipc', 'transinr-rerun') for precision in precisions}
    table = dict(device=str(device), threads=torch.get_num_threads(), seed=0, seconds=rows)
    Path(__file__).with_name('step.json').write_text(json.dumps(table, indent=1) + '\n')
    print(json.dumps(table, indent=1))

if __name__ == '__main__': main()
