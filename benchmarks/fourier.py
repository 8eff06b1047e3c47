"""Encodings on photographs after Tancik et al. (2020): train on every second pixel, score on the others.

    python benchmarks/fourier.py                  the laptop's size, whose figures chapter 04 quotes
    python benchmarks/fourier.py FOLDER --full    the paper's: 512 x 512, 2000 steps, 256 frequencies

Writes benchmarks/fourier.json (settings, protocol, one row per run). From the default pictures also
benchmarks/claims/fourier.json, unless --out says otherwise.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from instcomp.coords import chunked, grid
from instcomp.data import Folder, photos, read_image
from instcomp.fit import fit
from instcomp.fourier import basic, gaussian, positional
from instcomp.inr import INR, mlp
from instcomp.metrics import psnr

HERE = Path(__file__).parent
LAPTOP = dict(size=128, steps=500, seeds=3, pictures=4, width=64, features=64, batch=1024,
              sigma=3.5, scale=4., lr=.003)                                  # these three chosen on astronaut
FULL = dict(size=512, steps=2000, seeds=1, pictures=16, width=256, features=256, batch=0,  # 0: all seen
            sigma=10., scale=6., lr=.001)
PROTOCOL = ('central square, area-averaged to {size}x{size}; trained on every 2nd row and column; PSNR of '
            'seen 1/4, held-out 3/4 or all pixels, unclamped; mean (std) over pictures of means over seeds')


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', nargs='?', help='of pictures; none: the photographs in scikit-image')
    p.add_argument('--full', action='store_true', help=f'start from the paper\'s settings: {FULL}')
    p.add_argument('--out', type=Path, default=HERE/'fourier.json')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    for name, value in LAPTOP.items(): p.add_argument(f'--{name}', type=type(value), help=f'default {value}')
    a = p.parse_args()
    for name, value in (FULL if a.full else LAPTOP).items():
        if getattr(a, name) is None: setattr(a, name, value)
    return a


def square(image, size):                             # (3, H, W) -> (size, size, 3)
    side = min(image.shape[1:])
    if side < size: raise SystemExit(f'a picture of {side} pixels: leave it out or give --size {side}')
    top, left = ((n - side)//2 for n in image.shape[1:])
    image = image[:, top:top + side, left:left + side]
    return F.interpolate(image[None], (size, size), mode='area')[0].permute(1, 2, 0)


def encodings(a, seed):                              # name -> (encoding, learning rate)
    rng = torch.Generator().manual_seed(seed)
    return {'none': (None, 1e-2), 'basic': (basic(2), 1e-2),
            'positional': (positional(2, a.features, a.scale), a.lr),
            'gaussian': (gaussian(2, a.features, a.sigma, rng), a.lr)}


def score(y, encoding, lr, a, seed):                 # y (H, W, 3) -> decibels on each kind of pixels
    torch.manual_seed(seed)
    net = INR(encoding, hidden=a.width, depth=4).to(a.device)
    x = grid(y.shape[:2], extent=.5, device=a.device)                                       # H W 2, side 1
    h, value = net.encoding(x) if encoding else x, lambda h: mlp(h, net.raw()).sigmoid()
    held = torch.ones(y.shape[:2], dtype=torch.bool, device=a.device)
    held[::2, ::2] = False
    seen, target = h[~held], y[~held]

    def loss(i):
        k = torch.randint(len(seen), (a.batch,), device=a.device) if a.batch else slice(None)
        return (value(seen[k]) - target[k]).square().mean()
    for _ in fit(loss, torch.optim.Adam(net.parameters(), lr), a.steps): pass
    with torch.no_grad(): p = chunked(value, h.flatten(0, 1), 65536).view(y.shape)
    masks = dict(seen=~held, held_out=held, all=held | ~held)
    return {name: psnr(p[m][None], y[m][None]).item() for name, m in masks.items()}


def run(a, pictures):                                # one row per picture, seed and encoding
    for i, y in enumerate(pictures):
        for seed in range(a.seeds):
            for name, (encoding, lr) in encodings(a, seed).items():
                row = dict(picture=i, seed=seed, encoding=name)
                row |= {k: round(v, 3) for k, v in score(y, encoding, lr, a, seed).items()}
                print(*row.values(), flush=True)
                yield row


def summary(rows):                                   # key -> mean or standard deviation over pictures
    out = {}
    for name in dict.fromkeys(r['encoding'] for r in rows):
        for kind in 'seen', 'held_out', 'all':
            each = {}
            for r in rows:
                if r['encoding'] == name: each.setdefault(r['picture'], []).append(r[kind])
            each = [statistics.mean(v) for v in each.values()]
            out[f'{name}_{kind}'] = round(statistics.mean(each), 2)
            if len(each) > 1: out[f'{name}_{kind}_std'] = round(statistics.stdev(each), 2)
    return out


def main():
    a, start = arguments(), time.perf_counter()
    if a.folder: sources = [read_image(f) for f in Folder(a.folder).items]
    else: sources = photos('test') + photos('train', 'astronaut')  # chelsea, coffee, rocket, retina ...
    if not a.folder: sources = [im for im in sources if min(im.shape[1:]) >= a.size]
    sources = sources[:a.pictures]
    rows = list(run(a, [square(im, a.size).to(a.device) for im in sources]))
    git = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=HERE, capture_output=True, text=True)
    origin = dict(command=' '.join(['python benchmarks/fourier.py', *sys.argv[1:]]),
                  seed=f'0 to {a.seeds - 1}', device=a.device, threads=torch.get_num_threads(),
                  commit=git.stdout.strip())
    scores = summary(rows)
    result = dict(protocol=PROTOCOL.format(size=a.size), pictures=len(sources), **origin,
                  settings={k: getattr(a, k) for k in LAPTOP}, seconds=round(time.perf_counter() - start),
                  scores=scores, rows=rows)
    a.out.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    if a.out == HERE/'fourier.json' and not a.folder:
        claims = {k: dict(value=v, **origin) for k, v in scores.items()}
        (HERE/'claims'/'fourier.json').write_text(json.dumps(claims, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(scores, indent=1))


if __name__ == '__main__': main()
