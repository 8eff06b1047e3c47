"""Seconds until a SIREN shows one 512 x 512 photograph at 30 dB: a random part of the pixels at each step.

    python benchmarks/image_fit.py                    the cameraman; settings chosen on the astronaut
    python benchmarks/image_fit.py --photo astronaut --size 256

Writes benchmarks/image_fit.json: settings, protocol, PSNR of all pixels, wall and processor seconds.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from origin import commit
from skimage import data

from instcomp.evaluation.metrics import psnr
from instcomp.fields.coords import chunked, draw, grid
from instcomp.fields.siren import siren
from instcomp.training.device import device_of
from instcomp.training.loop import cosine, fit

SETTINGS = dict(size=512, steps=800, batch=4096, lr=1e-3, warmup=30, seed=0)
PROTOCOL = ('grey values as [-1, 1], fp32; width 256, 3 hidden layers beyond the first, omega 30 in all; '
            'seconds from before the first step until after the one score, that of all pixels: '
            'PSNR with peak 1 on [0, 1], not clamped')


def photograph(name, size):                          # values in [0, 1], (1, size*size, 1)
    image = torch.from_numpy(getattr(data, name)()).float()/255
    image = image.mean(-1) if image.dim() == 3 else image
    return F.interpolate(image[None, None], (size, size), mode='area').view(1, -1, 1)


def training(y, steps, batch, lr, warmup, seed=0, device='cpu', **_):  # y (1, N, 1) -> (score, steps to come)
    torch.manual_seed(seed)
    side = int(y.shape[1]**.5)
    x, v = grid((side, side)).view(-1, 2).to(device), (y*2 - 1).to(device)                  # N 2, 1 N 1
    net = siren(2, 256, 5, 1, 30., 30.).to(device)

    def loss(i):
        k, target = draw(x, v, 2/side, subsample='shared', fraction=batch/len(x))
        return (net(k) - target).square().mean()

    def score():
        with torch.no_grad(): return psnr((chunked(net, x, 8192)[None] + 1)/2, (v + 1)/2).item()
    opt = torch.optim.Adam(net.parameters(), lr, betas=(.9, .99), fused=True)
    return score, fit(loss, opt, steps, schedule=cosine(steps, warmup, .01))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--photo', default='camera', help='a function of skimage.data, such as astronaut')
    p.add_argument('--device')
    p.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    for name, value in SETTINGS.items(): p.add_argument(f'--{name}', type=type(value), default=value)
    a = p.parse_args()
    device = device_of(a.device)
    score, todo = training(photograph(a.photo, a.size), **vars(a) | dict(device=device))
    wall, processor = time.perf_counter(), time.process_time()
    for _ in todo: pass
    reached = score()
    result = dict(psnr=round(reached, 2), wall_seconds=round(time.perf_counter() - wall, 1),
                  processor_seconds=round(time.process_time() - processor, 1), protocol=PROTOCOL,
                  command=' '.join(['python benchmarks/image_fit.py', *sys.argv[1:]]), photo=a.photo,
                  settings={k: getattr(a, k) for k in SETTINGS}, device=str(device),
                  threads=torch.get_num_threads(), commit=commit())
    a.out.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(result, indent=1))


if __name__ == '__main__': main()
