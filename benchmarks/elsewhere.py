"""One matrix `V U` elsewhere: in a convolutional and a transformer decoder, for occupancy, over short films.

    python benchmarks/elsewhere.py                 all four, three seeds, some minutes of one core
    python benchmarks/elsewhere.py films --seeds 1

Everywhere a code a signal: shared weights and codes are learned together on twelve signals; then the shared
weights are fixed and unseen signals get codes by the same optimiser. Equal steps, codes of about equal size.
The codes' learning rate is chosen for each method on signals that are neither learned nor scored. Adds to
benchmarks/elsewhere.json, and to elsewhere.safetensors the pictures that chapter 09 shows.
"""
import argparse
import json
import statistics
import time
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from fourier import HERE, origin
from origin import add
from safetensors.torch import load_file, save_file
from torch import nn

from instcomp.data.batches import Crops, photos
from instcomp.evaluation.metrics import iou, psnr
from instcomp.fields.coords import grid
from instcomp.fields.fourier import log_spaced
from instcomp.fields.inr import INR, he_init
from instcomp.geometry.mesh import labelled_points
from instcomp.geometry.shapes import solid
from instcomp.models.codes import code_size
from instcomp.models.ginr import GINR, FiLM
from instcomp.models.hypernetwork import Block
from instcomp.models.ipc import IPC
from instcomp.models.occupancy import Occupancy
from instcomp.training.loop import cosine, fit

RATES = (.03, .1, .3)


def composed(n_in, n_out, rank):                     # one linear layer whose matrix is V U, one V an instance
    inr = INR(None, n_in, [], out_dim=n_out, normalize=True)
    return GINR(inr, IPC(inr, 0, rank), None, None)


class Convolutions(nn.Module):
    "4 x 4 features, doubled three times, a 3 x 3 convolution at each size; the code is a layer, or they."
    def __init__(self, own, channels=32):
        super().__init__()
        self.own = own == 'composer'
        self.start = nn.Parameter(torch.randn(1, channels, 4, 4)) if self.own else None
        convolution = lambda n_in, n_out: nn.Conv2d(n_in, n_out, 3, padding=1)
        self.first = convolution(channels if self.own else 72, channels)
        self.second = composed(9*channels, channels, 4) if self.own else convolution(channels, channels)
        self.rest = nn.ModuleList(convolution(channels, channels) for _ in range(2))
        self.last = convolution(channels, 3)
        self.code_shape = self.second.modulator.code_shape if self.own else (72, 4, 4)
    def forward(self, code):
        B, h = len(code), F.relu(self.first(self.start if self.own else code))
        h = F.interpolate(h, scale_factor=2).expand(B, -1, -1, -1)                          # B C 8 8
        if self.own:                                         # a 3 x 3 convolution is a matrix on windows
            windows = F.unfold(h, 3, padding=1).mT                                          # B 64 9C
            h = self.second.decode(code, windows, per_instance=True).mT.unflatten(2, (8, 8))
        else: h = self.second(h)
        for layer in self.rest: h = layer(F.interpolate(F.relu(h), scale_factor=2))         # B C 16 16; 32 32
        return self.last(F.relu(h)) + .5                                                    # B 3 32 32


def block_with(block, x, up):                        # a block with another first feed-forward layer
    x = x + block.attend(block.n1(x), 0)
    return x + block.down(F.gelu(up(block.n2(x))))


class Transformer(nn.Module):
    "64 tokens, each a patch of 4 x 4 pixels; three blocks. The code is a layer of the first, or the tokens."
    def __init__(self, own, dim=64):
        super().__init__()
        self.own = own == 'composer'
        self.where = nn.Parameter(torch.randn(1, 64, dim)*.5)
        self.blocks = nn.ModuleList(Block(dim, 2, 2*dim) for _ in range(3))
        self.up = composed(dim, 2*dim, 16) if self.own else nn.Linear(16, dim)
        if self.own: self.blocks[0].up = nn.Identity()       # its place is taken
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 48))
        self.code_shape = self.up.modulator.code_shape if self.own else (64, 16)
    def forward(self, code):
        h, first = self.where.expand(len(code), -1, -1), self.blocks[0]
        if self.own: h = block_with(first, h, lambda x: self.up.decode(code, x, per_instance=True))
        else: h = first(h + self.up(code))
        for block in self.blocks[1:]: h = block(h)
        return F.pixel_shuffle(self.out(h).mT.unflatten(2, (8, 8)), 4) + .5                 # B 3 32 32


def crops():                                         # learned, unseen, and to choose the rate on
    cut = Crops(photos()).cut
    return (cut(12, 32, np.random.default_rng(0), items=[0, 0, 0, 1, 1, 1, 3, 3, 3, 4, 4, 4]),
            cut(6, 32, np.random.default_rng(1), items=[2, 5, 5, 5, 6, 6]),
            cut(6, 32, np.random.default_rng(2), items=[0, 0, 1, 1, 3, 4]))


def picture_loss(model, code, images, draw): return F.mse_loss(model(code), images)*len(images)
def picture_score(model, code, images): return psnr(model(code), images).mean().item()


@cache
def films(n=24, frames=9, side=24):                  # two moving discs on a ground: n frames 3 S S
    rng, out = np.random.default_rng(0), []
    x = grid((side, side))
    for _ in range(n):
        ground, *colours = torch.from_numpy(rng.uniform(0, 1, (3, 3))).float()
        film = ground[:, None, None].expand(frames, -1, side, side)
        for colour in colours:
            at, speed = (torch.from_numpy(rng.uniform(-m, m, 2)).float() for m in (.5, .6))
            centre = at + torch.linspace(-1, 1, frames)[:, None]*speed                      # T 2
            far = (x - centre[:, None, None]).norm(dim=-1)                                  # T S S
            edge = ((rng.uniform(.25, .45) - far)*side/2 + .5).clamp(0, 1)[:, None]         # T 1 S S
            film = film + edge*(colour[:, None, None] - film)
        out.append(film)
    return torch.stack(out)


def film_points(film, every=slice(None)):            # t, x, y of those frames, (T S S, 3); colours B N 3
    x = grid((film.shape[1], *film.shape[3:]))[every]
    x = x*torch.tensor([.25, 1, 1])                          # slow in time: no wave between two given frames
    return x.flatten(0, -2), film[:, every].movedim(2, -1).flatten(1, -2)


EVEN, ODD = slice(0, None, 2), slice(1, None, 2)


def film_model(own):
    inr = INR(log_spaced(3, 48, 8.), hidden=64, normalize=own == 'composer', out_bias=.5, init=he_init)
    return GINR(inr, IPC(inr, 1, 6) if own == 'composer' else FiLM(inr, range(3)), None, None)


def film_loss(model, code, film, draw):
    x, y = film_points(film, EVEN)                           # the frames between are never seen
    k = torch.randint(len(x), (512,), generator=draw)
    return F.mse_loss(model.decode(code, x[k]), y[:, k])*len(film)


def film_score(model, code, film):
    x, y = film_points(film, ODD)
    return psnr(model.decode(code, x).mT, y.mT).mean().item()


def occupancy_model(own):
    inr = INR(log_spaced(3, 48, 8.), hidden=64, depth=4, out_dim=1, init=he_init, normalize=own == 'composer')
    return Occupancy(inr, IPC(inr, 1, 6) if own == 'composer' else FiLM(inr), None, None)


@cache
def solids(seeds):                                   # points to learn from, and 20,000 uniform ones to score
    out = []
    for seed in seeds:
        rng, one = torch.Generator().manual_seed(seed), solid('car', seed)
        x = torch.rand(20_000, 3, generator=rng)*2 - 1
        out.append((*labelled_points(one.inside, one.surface(1024, rng)[0], 4096, .04, rng),
                    x, one.inside(x)[:, None].float()))
    return [torch.stack(v) for v in zip(*out)]


def occupancy_loss(model, code, signal, draw):
    k = torch.randint(signal[0].shape[1], (512,), generator=draw)
    logits = model.decode(code, signal[0][:, k], per_instance=True)
    return F.binary_cross_entropy_with_logits(logits, signal[1][:, k])*len(signal[0])


def occupancy_score(model, code, signal):
    return iou(model.decode(code, signal[2], per_instance=True).sigmoid(), signal[3]).mean().item()


def parts_of_films(): return films()[:12], films()[12:18], films()[18:]
def parts_of_solids(): return solids(range(12)), solids(range(100, 106)), solids(range(200, 206))


WORLDS = {'convolutions': (Convolutions, crops, picture_loss, picture_score, ('composer', 'start')),
          'transformer': (Transformer, crops, picture_loss, picture_score, ('composer', 'tokens')),
          'films': (film_model, parts_of_films, film_loss, film_score, ('composer', 'FiLM')),
          'occupancy': (occupancy_model, parts_of_solids, occupancy_loss, occupancy_score,
                        ('composer', 'FiLM'))}


def codes(shape, n):                                 # one learned code for each of n signals
    if not isinstance(shape, dict): return nn.ParameterDict({'V': .2*torch.randn(n, *shape)})
    return nn.ParameterDict({k: .2*torch.randn(n, *s) for k, s in shape.items()})


def as_code(table): return table['V'] if 'V' in table else dict(table.items())
def length(signal): return len(signal if isinstance(signal, torch.Tensor) else signal[0])


def learned(model, table, signal, loss, score, groups, steps, draw):
    f = lambda i: loss(model, as_code(table), signal, draw)/length(signal)
    for _ in fit(f, torch.optim.Adam(groups), steps, schedule=cosine(steps, 10), clip=1.): pass
    with torch.no_grad(): return score(model, as_code(table), signal)


def experiment(world, own, lr, seed, steps, new=1):  # numbers; the model and the codes of the new signals
    make, data, loss, score, _ = WORLDS[world]
    torch.manual_seed(seed)
    model, parts, draw = make(own), data(), torch.Generator().manual_seed(seed)
    shape = getattr(model, 'modulator', model).code_shape
    table, own_codes = codes(shape, length(parts[0])), codes(shape, length(parts[new]))
    both = [dict(params=model.parameters(), lr=3e-3), dict(params=table.parameters(), lr=lr)]
    seen = learned(model, table, parts[0], loss, score, both, steps, draw)
    model.requires_grad_(False)
    unseen = learned(model, own_codes, parts[new], loss, score, [dict(params=own_codes.parameters(), lr=lr)],
                     steps, draw)
    shared = sum(p.numel() for p in model.parameters())
    return dict(seed=seed, lr=lr, seen=round(seen, 4), unseen=round(unseen, 4), numbers=code_size(shape),
                shared=shared), model, as_code(own_codes)


def drawn(world, own, model, code):                  # what the chapter shows of seed 0
    if world == 'occupancy': return {}
    if world != 'films': out = model(code)
    else:
        x, _ = film_points(films()[:1])
        out = model.decode(code, x)[:2].unflatten(1, (9, 24, 24)).movedim(-1, 2)            # 2 T 3 S S
    return {f'{world}_{own}': (out.clamp(0, 1)*255).round().to(torch.uint8).contiguous()}


def simple():                                        # what needs no network
    _, new, _ = crops()
    film = films()[12:18]
    between = (film[:, :-1:2] + film[:, 2::2])/2
    score = lambda p, t: round(psnr(p.flatten(1, 2), t.flatten(1, 2)).mean().item(), 4)
    truth = film[:, ODD]
    flat = new.mean((2, 3), keepdim=True).expand_as(new)
    return dict(mean_colour=round(psnr(flat, new).mean().item(), 4), film_fade=score(between, truth),
                film_mean=score(film.mean(1, keepdim=True).expand_as(truth), truth))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('worlds', nargs='*', default=list(WORLDS))
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--steps', type=int, default=120)
    a = p.parse_args()
    a.device = 'cpu'
    torch.set_num_threads(1)
    path, pictures = HERE/'elsewhere.json', {}
    for world in a.worlds:
        known, began = json.loads(path.read_text('utf-8')) if path.exists() else {}, time.process_time()
        found = {}
        for own in WORLDS[world][-1]:
            tried = {lr: experiment(world, own, lr, 0, a.steps, 2)[0]['unseen'] for lr in RATES}
            lr = max(tried, key=tried.get)
            runs = [experiment(world, own, lr, seed, a.steps) for seed in range(a.seeds)]
            found[own] = dict(tried=tried, runs=[r for r, *_ in runs])
            pictures |= drawn(world, own, *runs[0][1:])
            print(world, own, lr, tried, [r['unseen'] for r, *_ in runs], flush=True)
        known |= {'simple': simple(), world: found | dict(steps=a.steps, **origin('elsewhere', a),
                                                           cpu=round(time.process_time() - began, 1))}
        path.write_text(json.dumps(known, indent=1) + '\n', 'utf-8')
    pictures['films_true'] = (films()[12:14]*255).round().to(torch.uint8).contiguous()
    kept = HERE/'elsewhere.safetensors'
    save_file((load_file(kept) if kept.exists() else {}) | pictures, kept)
    claims = {f'elsewhere_{world}_{own}': statistics.mean(r['unseen'] for r in known[world][own]['runs'])
              for world in a.worlds for own in WORLDS[world][-1]}
    claims = {k: dict(value=round(v, 3), **origin('elsewhere', a)) for k, v in claims.items()}
    add(HERE/'claims'/'elsewhere.json', claims)


if __name__ == '__main__': main()
