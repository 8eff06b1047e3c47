"""Train `photos-zoom` on: the four stages after its preset's run that led to the shipped weights.

    python benchmarks/zoom_train.py START PHOTOS --small SMALL --held-out FOLDER -o runs/zoom

PHOTOS and SMALL are folders of the pictures that data/weights/photos-zoom/recipe.json names: large ones,
reduced to a long side of 1,600 pixels, and small ones of clothes; one crop in five comes from these. From the
second stage on, seven crops in ten are the one of most detail among three, and half of the batches lie near
twice the size. The third has larger crops, and did not better the held-out score; the last starts from the
mean of the second's and third's weights. START is the preset's own run. The first stage saw fewer pictures
than the later ones (recipe.json). FOLDER is scored by PSNR above bicubic at 2, 3, 4 times, every 500 steps.
A run that was stopped goes on where it was.
"""
import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from local import enlarged

from instcomp import load, psnr
from instcomp.data.batches import ZoomPairs, list_files
from instcomp.data.images import read_image
from instcomp.tasks.image import bicubic
from instcomp.training.trainer import train

STAGES = [dict(steps=5000, lr=5e-4, seed=2, n=8, size=32, points=3072, tries=1, near=False),
          dict(steps=9000, lr=5e-4, seed=5, n=8, size=32, points=3072, tries=3, near=True),
          dict(steps=2500, lr=2e-4, seed=7, n=2, size=64, points=12288, tries=3, near=True),
          dict(steps=6000, lr=5e-4, seed=11, n=8, size=32, points=3072, tries=3, near=True)]


def pictures(folder):
    return [(read_image(p)*255).round().byte() for p in list_files(folder)]


def detail(crop):                                               # (3, h, w): mean change from pixel to pixel
    green = crop[1, ::2, ::2].float()
    return (green.diff(dim=0).abs().mean() + green.diff(dim=1).abs().mean()).item()


class Mixed:
    "Crops of two sets of pictures, reduced, flipped and turned at random."
    sliced = False

    def __init__(self, large, small, tries):
        self.large, self.small, self.tries = large, small, tries
        areas = np.array([min(im.shape[1]*im.shape[2], 700_000) for im in large], float)
        self.share = areas/areas.sum()

    def crop(self, size, rng):
        few = rng.random() < .2 and size < 170
        im = self.small[rng.integers(len(self.small))] if few else \
            self.large[rng.choice(len(self.large), p=self.share)]
        short = min(im.shape[1:])
        most = min(4., short/size)
        side = min(short, round(size*(1. if most <= 1 or rng.random() < .5 else most**rng.random())))
        def cut():
            i, j = (rng.integers(length - side + 1) for length in im.shape[1:])
            return im[:, i:i + side, j:j + side]
        chosen = max((cut() for _ in range(self.tries if rng.random() < .7 else 1)), key=detail).float()/255
        if side != size: chosen = bicubic(chosen[None], (size, size))[0].clamp(0, 1)
        for axis in (-1, -2):
            if rng.random() < .5: chosen = chosen.flip(axis)
        return chosen.transpose(-1, -2) if rng.random() < .5 else chosen

    def batch(self, n, size, rng, items=None): return torch.stack([self.crop(size, rng) for _ in range(n)])


class Batches:
    def __init__(self, source, steps, seed, n, size, points, near, **_):
        scales = [(1, 4, 8), (1.5, 2.6, 4)][:1 + near]
        self.pairs = [ZoomPairs(source, s, points) for s in scales]
        self.steps, self.seed, self.n, self.size = steps, seed, n, size

    def __len__(self): return self.steps

    def __getitem__(self, i):
        rng = np.random.default_rng((self.seed, i, 0))
        return self.pairs[i % len(self.pairs)].batch(self.n, self.size, rng)


def above_bicubic(held_out):
    @torch.no_grad()
    def score(model):
        found = {}
        for s in (2, 3, 4):
            gains = []
            for image in held_out:
                y, _, rule, made = enlarged(model, image[None].float()/255, s)
                gains.append((psnr(made, y) - psnr(rule, y)).item())
            found[f'gain_{s}'] = sum(gains)/len(gains)
        return dict(psnr=found['gain_2'], **found)
    return score


def mean(models):
    states = [model.state_dict() for model in models]
    return {name: sum(state[name] for state in states)/len(states) for name in states[0]}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('start', help='the run of `instcomp train photos-zoom`')
    p.add_argument('photos', type=Path)
    p.add_argument('--small', type=Path, required=True, help='photographs of about 178 pixels')
    p.add_argument('--held-out', type=Path, required=True, help='what is scored on the way')
    p.add_argument('-o', '--out', type=Path, required=True, help='one run folder a stage')
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model, done, score = load(a.start, device='cpu'), [], above_bicubic(pictures(a.held_out))
    large, small = pictures(a.photos), pictures(a.small)
    for number, stage in enumerate(STAGES, 1):
        if number == len(STAGES): model.load_state_dict(mean(done[-2:]))
        config = copy.deepcopy(model.config)
        config['train'] |= dict(steps=stage['steps'], lr=stage['lr'], warmup=100, every=500)
        run = a.out/f'stage-{number}'
        batches = Batches(Mixed(large, small, stage['tries']), **stage)
        print(number, train(model.requires_grad_(True), config, batches, run, score,
                            resume=(run/'state').exists(), device='cpu', precision='bf16'), flush=True)
        model = load(str(run), device='cpu')
        done.append(model)


if __name__ == '__main__': main()
