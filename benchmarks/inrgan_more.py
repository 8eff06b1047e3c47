"""Beside the ladder of inrgan.py: a convolutional generator, classes, and what lies beyond the frame.

    python benchmarks/inrgan_more.py conv      convolutions of about the work of rung 5, for as many steps
    python benchmarks/inrgan_more.py classes   rung 5 told which of cars, chairs, lamps to draw
    python benchmarks/inrgan_more.py zoom      rung 5 on crops of photographs, evaluated beyond the frame

A run that was stopped goes on where it was. Adds to benchmarks/inrgan_more.json, its claims, and
inrgan_more.safetensors (samples). `classes` and `zoom` take one seed.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fourier import HERE, origin
from inrgan import HELD_OUT, PICTURES, data, learn, protocol, row, samples, sheet
from origin import add
from safetensors.torch import load_file, save_file
from torch import nn

from instcomp.data.batches import Crops, photos
from instcomp.evaluation.generative import swd
from instcomp.geometry.shapes import FAMILIES
from instcomp.models.discriminator import GAN, Discriminator, EqualizedConv2d, build_gan, scaled_leaky_relu
from instcomp.models.inrgan import macs

NAMES = [f'{family}s' for family in FAMILIES]        # label -> what it says


class Convolutions(nn.Module):
    "Noise to 4 x 4 features, doubled and convolved twice; the colours of all three sizes add up (StyleGAN2)."
    def __init__(self, width=48, dim=64):
        super().__init__()
        self.dim, self.width = dim, width
        self.start = EqualizedConv2d(dim, 16*width, 1)
        self.layers = nn.ModuleList(EqualizedConv2d(width, width) for _ in range(3))
        self.colours = nn.ModuleList(EqualizedConv2d(width, 3, 1) for _ in range(3))
    def forward(self, z, label=None):
        h = scaled_leaky_relu(self.start(z[:, :, None, None], 0)).view(-1, self.width, 4, 4)
        out = 0.
        for k, (layer, colour) in enumerate(zip(self.layers, self.colours)):
            if k: h, out = (F.interpolate(v, scale_factor=2) for v in (h, out))
            h = scaled_leaky_relu(layer(h))
            out = out + colour(h)
        return out.tanh()                                                                   # B 3 16 16


def of_convolutions(config):
    return GAN(Convolutions(), Discriminator(**config['discriminator']), **config['loss'], config=config)


def bytes_of(p): return (p.clamp(0, 1)*255).round().to(torch.uint8).contiguous()
def mean_swd(a, b): return round(sum(swd(a, b))/2, 3)


def work(G, **how):                                  # millions of multiply-adds of a picture
    with torch.no_grad(): return round(macs(lambda: G(torch.randn(1, G.dim), **how))/1e6, 3)


def conv(a):
    real, held_out = data(a.runs, 16)
    rows = []
    for seed in range(a.seeds):
        folder = a.runs/f'conv-{a.steps}-{seed}'
        gan, last, _ = learn(row(5, seed, a.steps), folder, real, held_out, of_convolutions)
        rows.append(dict(seed=seed, swd=round(last['swd'], 4), precision=round(last['precision'], 4),
                         recall=round(last['recall'], 4), params=sum(p.numel() for p in gan.G.parameters())))
        print(rows[-1], flush=True)
        if seed == 0: first = sheet(gan)
    G = build_gan(row(5)).G                          # what a preview of half the side costs
    costs = dict(conv=work(gan.G), conv_preview=work(gan.G), rung5=work(G), rung5_preview=work(G, size=8))
    claims = {f'mmacs_{k}': v for k, v in costs.items()}
    claims['swd_conv'] = sum(r['swd'] for r in rows)/len(rows)
    return dict(protocol=protocol(16), steps=a.steps, rows=rows, mmacs=costs), claims, dict(conv=first)


def told(gan, kind, n, seed=1):                      # n samples of one class, in [0, 1]
    z = torch.randn(n, gan.G.dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(): return gan.G(z, label=torch.full((n,), kind))/2 + .5


def classes(a):
    real, held_out = data(a.runs, 16)
    kind, kept = torch.arange(PICTURES) % 3, (PICTURES - HELD_OUT + torch.arange(HELD_OUT)) % 3
    config = row(5, 0, a.steps, classes=3)
    config['discriminator']['classes'] = 3

    def score(held_out):
        return lambda gan: {f'{j}{k}': mean_swd(held_out[kept == k], told(gan, j, 170))
                            for j in range(3) for k in range(3)}
    gan, last, _ = learn(config, a.runs/f'classes-{a.steps}', real, held_out, build_gan, score,
                         kind[:len(real)])
    of_class = lambda j: real[kind[:len(real)] == j][:170]
    among = [[mean_swd(held_out[kept == k], of_class(j)) for k in range(3)] for j in range(3)]
    table = [[last[f'{j}{k}'] for k in range(3)] for j in range(3)]
    own = sum(table[k][k] for k in range(3))/3
    said = f'rows: what the label says; columns: held-out pictures of {", ".join(NAMES)}; {protocol(16)}'
    pictures = {name: bytes_of(told(gan, k, 12)) for k, name in enumerate(NAMES)}
    return dict(protocol=said, steps=a.steps, seed=0, names=NAMES, samples=table, real=among), dict(
        swd_classes_own=own), pictures


def zoom(a):
    cut = Crops(photos()).cut                        # 24 x 24, of which the middle 16 x 16 is shown
    seen, held_out = (cut(n, 24, np.random.default_rng(k))
                      for k, n in enumerate((PICTURES - HELD_OUT, HELD_OUT)))
    middle = lambda p: p[..., 4:20, 4:20].contiguous()

    def score(held_out): return lambda gan: dict(swd=mean_swd(held_out, samples(gan, HELD_OUT)))
    gan, last, _ = learn(row(5, 0, a.steps), a.runs/f'zoom-{a.steps}', middle(seen), middle(held_out),
                         build_gan, score)
    z = torch.randn(HELD_OUT, gan.G.dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(): wide = gan.G(z, size=24, extent=1.5)/2 + .5
    inner = middle(wide)
    made = {'network': wide, **{m: F.pad(inner, [4]*4, mode=m) for m in ('replicate', 'reflect')},
            'frame of other samples': torch.cat([wide[1:], wide[:1]])}
    made['frame of other samples'][..., 4:20, 4:20] = inner
    found = {name: dict(zip(('fine', 'coarse'), swd(held_out, p))) for name, p in made.items()}
    found['real pictures'] = dict(zip(('fine', 'coarse'), swd(held_out, seen[:HELD_OUT])))
    found = {k: {b: round(v, 2) for b, v in f.items()} for k, f in found.items()}
    # how colours change across the frame's edge, beside the step one pixel further inside
    for name, p in (made | {'real pictures': held_out}).items():
        step = lambda i, k, p=p: round((p[..., i, 4:20] - p[..., k, 4:20]).square().mean().sqrt().item(), 4)
        found[name] |= dict(across=step(3, 4), inside=step(4, 5), outside=step(0, 3))
    said = ('crops of the training photographs, 24 x 24; the generator learned the middle 16 x 16 and is '
            f'evaluated on 24 x 24; {HELD_OUT} pictures against {HELD_OUT} other crops: sliced Wasserstein '
            'distance x 1000 of 7 x 7 patches, two bands; colour steps: root mean square, across the upper '
            'edge of the frame')
    claims = {f'swd_zoom_{k.replace(" ", "_")}': (v['fine'] + v['coarse'])/2 for k, v in found.items()}
    pictures = {f'zoom_{name}': bytes_of(p[:8]) for name, p in
                dict(network=wide, reflect=made['reflect'], real=held_out).items()}
    return dict(protocol=said, steps=a.steps, seed=0, frame=last['swd'], found=found), claims, pictures


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('what', choices=['conv', 'classes', 'zoom'])
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--steps', type=int, default=500)
    p.add_argument('--runs', type=Path, default=HERE.parent/'runs')
    p.add_argument('--dry', action='store_true', help='print, write nothing')
    a = p.parse_args()
    a.device, a.seeds = 'cpu', a.seeds if a.what == 'conv' else 1
    torch.set_num_threads(1)
    a.runs.mkdir(parents=True, exist_ok=True)
    result, claims, pictures = dict(conv=conv, classes=classes, zoom=zoom)[a.what](a)
    print(json.dumps(result, indent=1))
    if a.dry: return
    add(HERE/'inrgan_more.json', {a.what: result | origin('inrgan_more', a)})
    add(HERE/'claims'/'inrgan_more.json', {k: dict(value=round(v, 3), **origin('inrgan_more', a))
                                           for k, v in claims.items()})
    path = HERE/'inrgan_more.safetensors'
    save_file((load_file(path) if path.exists() else {}) | pictures, path)


if __name__ == '__main__': main()
