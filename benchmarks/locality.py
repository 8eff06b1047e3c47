"""Codes for the whole picture and codes for places, trained as long on the same pictures (processor seconds).

    python benchmarks/locality.py FOLDER [--seconds 150] [--only NAME]

FOLDER: photographs to train on, beside scikit-image's (ours: see data/weights/photos-local/recipe.json).
Scored on 64 x 64 crops of chelsea and coffee (`evaluation_images`), enlarging networks on both whole; one
thread, fp32, one seed. Writes benchmarks/locality.json; what is there is kept unless asked for by name.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from origin import commit

from instcomp import build, psnr
from instcomp.data.batches import PhotoCrops, ZoomPairs, list_files, photos
from instcomp.data.datasets import evaluation_images
from instcomp.data.images import read_image
from instcomp.experiments.catalog import row
from instcomp.fields.coords import grid
from instcomp.models.hypernetwork import transformer_encoder
from instcomp.models.local import LIIFField, LocalCodec, LocalField, LocalGINR, TokenAttention
from instcomp.tasks.image import bicubic, query
from instcomp.training.loop import fit

HERE, SIZE, NUMBERS = Path(__file__).parent, 64, 4096


def ipc(): return build(row('photos-ipc'))


def transinr(): return build(row('photos-ipc') | dict(modulator=dict(name='columns', groups=7)))


def attention():
    r = row('photos-ipc')['encoder']
    encoder = transformer_encoder(SIZE, (64, 64), **{k: v for k, v in r.items() if k != 'name'})
    return TokenAttention(encoder, query)


def codec(): return LocalGINR(LocalCodec(ranks=(64,)))


def field(kind): return lambda: LocalGINR(field=kind())


def macs(name, R=64, D=64, H=64, n=27, A=128):
    "Multiply-adds of one coordinate between the code and its value, without convolutions of the samples."
    mlp = H*H + 3*H
    layers = 128*64 + 64*128 + 128*256 + 256*128 + 128*3  # photos-ipc's network
    return {'IPC': layers, 'TransINR': layers, 'PCA, 64 numbers a patch': 3*64, 'local codec': 3*64,
            'LA-GINR': 3*128*A + A*A + 2*R*A + A*A + 3*A*A + 6*A, 'LocalField': 4*2*H + 2*n*H + mlp,
            'LIIF': 4*(2*n*H + mlp)}[name]


def trained(model, source, seconds, batch, size, lr, seed=0):
    "Adam for so many processor seconds; after a warm-up the rate falls along a cosine of the time spent."
    if hasattr(model, 'initialise') and model.codec:
        few = [source.batch(64, 64, np.random.default_rng(k))['64'] for k in range(20)]
        u = model.codec.patches(torch.cat(few))
        model.codec.basis.fit(u.flatten(2).transpose(1, 2).flatten(0, 1))
    began, opt = time.process_time(), torch.optim.Adam(model.parameters(), lr, (.9, .99), fused=True)
    spent = lambda: (time.process_time() - began)/seconds
    def loss(step):
        x = source.batch(batch, size, np.random.default_rng((seed, step, 0)))
        return model.losses(model.encode(x), x).mean()
    share = lambda step: min(1., (step + 1)/50)*max(0., .5*(1 + np.cos(np.pi*min(1, spent()))))
    for state in fit(loss, opt, 10**9, schedule=share, clip=1.):
        if spent() >= 1: return state.step


class OneRank:
    "Crops for a codec of 64 numbers only."
    def __init__(self, source): self.source = source
    def batch(self, n, size, rng, items=None): return {'64': self.source.batch(n, size, rng)}


@torch.no_grad()
def tiles(model):
    "Mean PSNR of 64 x 64 crops in one pass."
    y = evaluation_images('photos', SIZE, 256, 0)
    made = [model.decode(model.encode(part), grid((SIZE, SIZE))).movedim(-1, 1) for part in y.split(32)]
    return psnr(torch.cat(made), y).mean().item()


@torch.no_grad()
def gains(model):
    "Gain over bicubic interpolation at 2, 3 and 4 times, whole held-out photographs."
    out = {}
    for s in (2, 3, 4):
        both = []
        for y in photos('test'):
            h, w = (n//s for n in y.shape[1:])
            y = y[None, :, :h*s, :w*s]
            low = bicubic(y, (h, w)).clamp(0, 1).mul(255).round()/255
            made = model.decode(model.encode(low), grid((h*s, w*s))).movedim(-1, 1).clamp(0, 1)
            both.append(psnr(made, y).item() - psnr(bicubic(low, (h*s, w*s)).clamp(0, 1), y).item())
        out[f'gain_{s}'] = float(np.mean(both))
    return out


def linear(source):
    "Patch PCA of 64 numbers, as a model that is not trained."
    model = codec()
    trained(model, OneRank(source), 1e-3, 1, 64, 1e-9)
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', type=Path)
    p.add_argument('--seconds', type=float, default=150)
    p.add_argument('--only')
    args = p.parse_args()
    torch.set_num_threads(1)
    path = HERE/'locality.json'
    kept = json.loads(path.read_text('utf-8')) if path.exists() else dict(rows={}, fields={})
    crops = PhotoCrops(photos() + [read_image(f) for f in list_files(args.folder)])
    runs = {'IPC': (ipc, crops, 12, SIZE, 2.5e-3), 'TransINR': (transinr, crops, 12, SIZE, 2.5e-3),
            'LA-GINR': (attention, crops, 12, SIZE, 1e-3),
            'local codec': (codec, OneRank(crops), 10, 96, 6e-4),
            'LIIF': (field(LIIFField), ZoomPairs(crops), 8, 32, 1e-3),
            'LocalField': (field(LocalField), ZoomPairs(crops), 8, 32, 1e-3)}
    for name, (make, source, batch, size, lr) in runs.items():
        place = 'fields' if name in ('LIIF', 'LocalField') else 'rows'
        if name in kept[place] and name != args.only: continue
        torch.manual_seed(0)
        model = make()
        steps = trained(model, source, args.seconds, batch, size, lr)
        model.eval()
        about = dict(steps=steps, seconds=args.seconds, macs=macs(name), commit=commit(), seed=0, threads=1)
        score = gains(model) if place == 'fields' else dict(psnr=tiles(model), numbers=NUMBERS)
        kept[place][name] = about | score
        if 'PCA, 64 numbers a patch' not in kept['rows']:
            pca = 'PCA, 64 numbers a patch'
            kept['rows'][pca] = dict(psnr=tiles(linear(crops)), numbers=NUMBERS, steps=0, macs=macs(pca))
        path.write_text(json.dumps(kept, indent=1) + '\n', 'utf-8')
        print(name, about | score, flush=True)


if __name__ == '__main__': main()
