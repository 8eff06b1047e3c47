"""Encodings on photographs and on pages of text after Tancik et al. (2020): train on every second pixel.

    python benchmarks/fourier.py                  the laptop's size, whose figures chapter 04 quotes
    python benchmarks/fourier.py FOLDER --full    the paper's: 512 x 512, 2000 steps, 256 frequencies

Bandwidth and learning rate of each encoding are the best ones on a further photograph or page. A run that was
stopped goes on where it was. Writes benchmarks/fourier.json (settings, protocol, one row per run); from the
default pictures also the same name in benchmarks/claims, unless --out names another folder.
"""
import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from origin import commit

from instcomp.data.batches import Folder, photos
from instcomp.data.images import read_image
from instcomp.evaluation.metrics import psnr
from instcomp.fields.coords import chunked, grid
from instcomp.fields.fourier import basic, gaussian, positional
from instcomp.fields.inr import INR, mlp
from instcomp.training.loop import cosine, fit

HERE = Path(__file__).parent
LAPTOP = dict(size=128, steps=500, seeds=3, pictures=4, width=64, features=64, batch=1024,
              tune=2, letter=.16, floor=0.)           # pictures of the sweep; smallest letter; decay to 0
FULL = dict(size=512, steps=2000, seeds=1, pictures=16, width=256, features=256, batch=0,      # 0: all seen
            tune=2, letter=.16, floor=1.)
KNOBS = {'none': [None], 'basic': [None], 'positional': [2., 3., 4., 5., 6.],    # S, sigma for 128 pixels
         'gaussian': [1.5, 2.5, 3.5, 5., 7., 10., 14.]}
RATES = [.003, .001, .01, .03]                                                   # the first one for the knobs
PROTOCOL = ('central square, area-averaged to {size}x{size}; trained on every 2nd row and column; PSNR of '
            'seen 1/4, held-out 3/4 or all pixels, unclamped; mean (std) over pictures of means over seeds; '
            'bandwidth, then learning rate: best mean held-out PSNR on {tune} further pictures, seed 0')
PROSE = '''A signal is a function of a place, and a network can learn that function one step at a time.
Waves that turn slowly come first and waves that turn fast come late; the frequencies we choose decide how
late. Between two pixels that were seen there is room for invention, and letters leave more of it than a
photograph.'''


def arguments(script='fourier', defaults=LAPTOP, full=FULL):
    p = argparse.ArgumentParser()
    p.add_argument('folder', nargs='?', help='of pictures; none: the photographs in scikit-image')
    p.add_argument('--full', action='store_true', help=f'start from the paper\'s settings: {full}')
    p.add_argument('--kind', choices=['photo', 'text'], help='only these pictures')
    p.add_argument('--out', type=Path, default=HERE/f'{script}.json')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    for k, v in defaults.items(): p.add_argument(f'--{k}', type=type(v), help=f'default {v}')
    a = p.parse_args()
    for name, value in (full if a.full else defaults).items():
        if getattr(a, name) is None: setattr(a, name, value)
    return a


def square(image, size):                             # (3, H, W) -> (size, size, 3)
    side = min(image.shape[1:])
    if side < size: raise SystemExit(f'a picture of {side} pixels: leave it out or give --size {side}')
    top, left = ((n - side)//2 for n in image.shape[1:])
    image = image[:, top:top + side, left:left + side]
    return F.interpolate(image[None], (size, size), mode='area')[0].permute(1, 2, 0)


def page(seed, size, letter):                        # lines of text: fonts, sizes and colours drawn by seed
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont
    rng, side, words, y = np.random.default_rng(seed), 4*size, PROSE.split(), 0
    fonts = ['DejaVuSans', 'DejaVuSans-Bold', 'DejaVuSerif', 'DejaVuSerif-Italic', 'STIXGeneral']
    sheet = Image.new('RGB', (side, side), 'white')
    while y < side:
        height = int(rng.uniform(letter, 2.4*letter)*side)
        font = ImageFont.truetype(f'{get_data_path()}/fonts/ttf/{rng.choice(fonts)}.ttf', height)
        start, ink = rng.integers(len(words)), tuple(int(v) for v in rng.integers(0, 200, 3))
        line = ' '.join((words + words)[start:start + 12])
        ImageDraw.Draw(sheet).text((int(-.1*side*rng.random()), y), line, ink, font)
        y += int(1.25*height)
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)/255                         # 3 4size 4size


def pictures(a):                                     # kind -> (pictures to score, others for the sweep)
    n, m = a.pictures, a.tune
    if a.folder: sources = [read_image(f) for f in Folder(a.folder).items[:n + m]]
    else:                                            # chelsea, coffee, rocket, retina; astronaut, a tissue
        large = [im for im in photos('test') + photos('train', 'astronaut') if min(im.shape[1:]) >= a.size]
        sources = large[:n] + photos('val')[:m] + photos('val', 'immunohistochemistry')[:m - 1]
    if len(sources) < n + m: raise SystemExit(f'{len(sources)} pictures: {n} to score and {m} for the sweep')
    kinds = dict(photo=sources, text=[page(seed, a.size, a.letter) for seed in range(n + m)])
    kinds = {kind: [square(im, a.size).to(a.device) for im in each] for kind, each in kinds.items()}
    return {kind: (each[:n], each[n:]) for kind, each in kinds.items() if a.kind in (None, kind)}


def encoding(name, knob, a, seed):                   # the knob is meant for 128 pixels a side
    rng, ratio = torch.Generator().manual_seed(seed), a.size/128
    return {'none': lambda: None, 'basic': lambda: basic(2),
            'positional': lambda: positional(2, a.features, knob + math.log2(ratio)),
            'gaussian': lambda: gaussian(2, a.features, knob*ratio, rng)}[name]()


def painter(name, knob, a, seed):                    # network, its inputs (H, W, n), inputs -> colours
    torch.manual_seed(seed)
    net = INR(encoding(name, knob, a, seed), hidden=a.width, depth=4).to(a.device)
    x = grid((a.size, a.size), extent=.5, device=a.device)                                  # H W 2, side 1
    return net, net.encoding(x) if net.encoding else x, lambda h: mlp(h, net.raw()).sigmoid()


def score(y, net, h, value, lr, a):                  # y (H, W, 3) -> decibels on each kind of pixels, seconds
    held, start = torch.ones(y.shape[:2], dtype=torch.bool, device=a.device), time.process_time()
    held[::2, ::2] = False
    seen, target = h[~held], y[~held]

    def loss(i):
        k = torch.randint(len(seen), (a.batch,), device=a.device) if a.batch else slice(None)
        return (value(seen[k]) - target[k]).square().mean()
    for _ in fit(loss, torch.optim.Adam(net.parameters(), lr, fused=True), a.steps,
                 schedule=cosine(a.steps, floor=a.floor)): pass
    seconds = time.process_time() - start
    with torch.no_grad(): p = chunked(value, h.flatten(0, 1), 65536).view(y.shape)
    masks = dict(seen=~held, held_out=held, all=held | ~held)
    scores = {k: round(psnr(p[m][None], y[m][None]).item(), 3) for k, m in masks.items()}
    return scores | dict(seconds=round(seconds, 2))


def remember(path, settings):                        # keep(key, f): f() once, later what the file remembers
    head, known = json.dumps(settings), {}
    if path.exists():
        first, *lines = path.read_text(encoding='utf-8').split('\n')
        if first == head: known = dict(json.loads(line) for line in lines if line.endswith(']'))
    path.write_text('\n'.join([head, *(json.dumps([k, v]) for k, v in known.items()), '']), encoding='utf-8')

    def keep(key, f):
        if key not in known:
            known[key] = f()
            with path.open('a', encoding='utf-8') as file: file.write(json.dumps([key, known[key]]) + '\n')
            print(key, known[key], flush=True)
        return known[key]
    return keep


def choose(name, knobs, rates, run):                 # run(knob, lr) -> scores; the best; all tries
    tried = {(k, rates[0]): run(k, rates[0]) for k in knobs}
    knob = max(tried, key=lambda c: tried[c]['held_out'])[0]
    tried |= {(knob, lr): run(knob, lr) for lr in rates[1:]}
    best = max(tried, key=lambda c: tried[c]['held_out'])
    return best, [dict(name=name, knob=k, lr=lr, **v) for (k, lr), v in tried.items()]


def measure(kind, images, knobs, rates, painter, a, keep):  # -> settings, rows of sweep, rows of runs
    def run(name, part, i, seed, knob, lr):
        f = lambda: score(images[part][i], *painter(name, knob, a, seed), lr, a)
        return keep(f'{kind} {name} {("score", "sweep")[part]} {i} seed {seed} knob {knob} rate {lr}', f)

    def sweep(name, knob, lr):                       # means over the pictures of the sweep
        each = [run(name, 1, i, 0, knob, lr) for i in range(len(images[1]))]
        return {k: round(statistics.mean(r[k] for r in each), 3) for k in each[0]}
    found, tries, rows = {}, [], []
    for name, options in knobs.items():
        found[name], tried = choose(name, options, rates, lambda k, lr: sweep(name, k, lr))
        tries += [dict(kind=kind, **row) for row in tried]
        rows += [dict(kind=kind, name=name, picture=i, seed=seed, **run(name, 0, i, seed, *found[name]))
                 for i in range(len(images[0])) for seed in range(a.seeds)]
    return {name: dict(knob=k, lr=lr) for name, (k, lr) in found.items()}, tries, rows


def summary(rows, columns=('seen', 'held_out', 'all')):   # key -> mean or standard deviation over pictures
    out = {}
    for kind, name in dict.fromkeys((r['kind'], r['name']) for r in rows):
        for column in columns:
            each = {}
            for r in rows:
                if (r['kind'], r['name']) == (kind, name): each.setdefault(r['picture'], []).append(r[column])
            each = [statistics.mean(v) for v in each.values()]
            out[f'{kind}_{name}_{column}'] = round(statistics.mean(each), 2)
            if len(each) > 1: out[f'{kind}_{name}_{column}_std'] = round(statistics.stdev(each), 2)
    return out


def origin(script, a):
    command = ' '.join([f'python benchmarks/{script}.py', *sys.argv[1:]])
    return dict(command=command, seed=f'0 to {a.seeds - 1}' if a.seeds > 1 else 0, device=a.device,
                threads=torch.get_num_threads(), commit=commit())


def write(script, a, result, claims):                # the JSON; the claims too if these are the default runs
    a.out.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    if a.out.resolve().parent == HERE.resolve() and not a.folder and not a.full:
        claims = {k: dict(value=v, **origin(script, a)) for k, v in claims.items()}
        (HERE/'claims'/a.out.name).write_text(json.dumps(claims, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(result['scores'], indent=1))


def main():
    a = arguments()
    settings = {k: getattr(a, k) for k in LAPTOP} | dict(folder=a.folder, device=a.device)
    part = a.out.with_suffix('.json.tmp')
    keep, found, sweep, rows = remember(part, settings), {}, [], []
    for kind, images in pictures(a).items():
        found[kind], tried, done = measure(kind, images, KNOBS, RATES, painter, a, keep)
        sweep, rows = sweep + tried, rows + done
    scores = summary(rows)
    gain = {f'fourier_gain_db{end}': round(scores[f'{kind}_gaussian_all'] - scores[f'{kind}_none_all'], 2)
            for kind, end in (('photo', ''), ('text', '_text')) if kind in found}
    best = {f'{kind}_{name}_{k}': v for kind in found for name in found[kind]
            for k, v in found[kind][name].items() if v is not None}
    protocol = PROTOCOL.format(size=a.size, tune=a.tune)
    result = dict(protocol=protocol, **origin('fourier', a), settings=settings, found=found,
                  scores=scores | gain, sweep=sweep, rows=rows)
    write('fourier', a, result, gain | best | scores)
    part.unlink()


if __name__ == '__main__': main()
