"""One scene: an object seen from a hundred sides, eighty to learn from, twenty held out.

    python benchmarks/scene.py                   every row of the table
    python benchmarks/scene.py two_rounds siren  only these

Rows: best (a coarse and a fine network, five octaves for places, four for directions) for --steps; the others
for --short steps each: two_rounds (the same), one_round (as many questions a ray, one network), coarse_only
(the samples of the first round, one network), the same three with a quarter of the samples (_few),
ten_octaves (the paper's encoding), gaussian, siren. A row that is there is not run again. Writes
benchmarks/claims/scene.json unless --out says otherwise.
"""
import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from origin import commit

from instcomp.data.synthetic_views import LIGHT, on_white, photograph
from instcomp.evaluation.metrics import psnr
from instcomp.fields.fourier import gaussian, nerf
from instcomp.fields.inr import INR, he_init
from instcomp.fields.siren import siren
from instcomp.geometry.camera import orbit_pose, pinhole, pixels, rays
from instcomp.geometry.rendering import (
    importance_samples,
    occupied_cells,
    radiance,
    render,
    shade_rays,
    stratified,
)
from instcomp.geometry.shapes import solid
from instcomp.training.loop import cosine, fit

CLAIMS = Path(__file__).parent/'claims'/'scene.json'
NEAR, FAR, ANGLE, DENSITY = 2.8, 5.2, .54, 20.
SINGLE = dict(one_round=3, coarse_only=1, one_round_few=3, coarse_only_few=1)        # one network; samples
ROWS = ['best', 'two_rounds', 'one_round', 'coarse_only', 'two_rounds_few', 'one_round_few',
        'coarse_only_few', 'ten_octaves', 'gaussian', 'siren']


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('rows', nargs='*', default=ROWS, help=f'of {", ".join(ROWS)}')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--family', default='car', help='car, chair or lamp')
    p.add_argument('--steps', type=int, default=4000)
    p.add_argument('--short', type=int, default=900)
    p.add_argument('--rays', type=int, default=256)
    p.add_argument('--width', type=int, default=64)
    p.add_argument('--samples', type=int, default=32, help='of each round')
    p.add_argument('--lr', type=float, default=4e-3)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out', type=Path, default=CLAIMS)
    return p.parse_args()


def scene(family, size, views=100):                  # origins, directions, colours (V, H, W, 3), true depth
    poses = torch.stack([orbit_pose(137.5*k % 360, 5 + 55*((k*.618) % 1)) for k in range(views)])
    shots = photograph(solid(family, 7), poses, size, ANGLE, LIGHT)
    o, d = rays(poses, pinhole(size, size, ANGLE), pixels(size, size))
    return o, d, on_white(shots['pictures']).permute(0, 2, 3, 1), shots['depth']


def thin(v): return F.softplus(v - 4)                # air at first: all samples learn


def field(row, width):                               # a field and its parameters
    def encoded(L): return nerf(3, L)
    if row == 'siren': nets = [siren(3, width, 5, 4, 8., 30.)]
    elif row == 'gaussian': nets = [INR(gaussian(3, 60, 1.), 3, width, 5, 4, init=he_init)]
    else:                                            # features and the encoded direction make the colour
        place, view = encoded(10 if row == 'ten_octaves' else 5), encoded(4)
        trunk = INR(place, 3, width, 4, 1 + width, init=he_init)
        head = INR(None, width + view.out_dim, width//2, 2, 3, init=he_init)
        def colour(h): return head(torch.cat([F.relu(h[..., :-3]), view(h[..., -3:])], -1))
        return radiance(trunk, colour, thin, DENSITY), [*trunk.parameters(), *head.parameters()]
    return radiance(nets[0], None, thin, DENSITY), list(nets[0].parameters())


def samples(a, row):                                 # of the first round
    return SINGLE.get(row, 1)*a.samples//(4 if row.endswith('_few') else 1)


def train(a, row, o, d, y):                          # flat rays and colours -> coarse, fine, seconds, steps
    torch.manual_seed(a.seed)
    (coarse, parameters), fine = field(row, a.width), None
    if row not in SINGLE: fine, more = field(row, a.width)
    if fine: parameters = parameters + more
    seen, skip, n = (y < .99).any(1).nonzero()[:, 0], {}, samples(a, row)

    def loss(step):
        k = torch.randint(len(y), (a.rays,))
        if step < 200: k[::2] = seen[torch.randint(len(seen), (len(k[::2]),))]
        if step >= 200 and step % 100 == 0:
            for key, f in (('coarse', coarse), ('fine', fine)):
                if f: skip[key] = occupied_cells(f, 32, 1.1, least=.3)
        O, D, Y = o[k], d[k], y[k]
        t = stratified(NEAR, FAR, n, (a.rays,), True)
        first = shade_rays(coarse, O, D, t, NEAR, FAR, cells=skip.get('coarse'))
        error = (first['rgb'] - Y).square().mean()
        if not fine: return error
        t = importance_samples(t, first['weights'], NEAR, FAR, n, True)
        second = shade_rays(fine, O, D, t, NEAR, FAR, cells=skip.get('fine'))
        return error + (second['rgb'] - Y).square().mean()

    steps = a.steps if row == 'best' else a.short
    began, opt = time.process_time(), torch.optim.Adam(parameters, 5e-4 if row == 'siren' else a.lr)
    for s in fit(loss, opt, steps, schedule=cosine(steps, 50, .02), clip=1.):
        if s.step % 200 == 0:
            print(row, s.step, f'{s.loss.item():.5f}', f'{time.process_time() - began:.0f} s', flush=True)
    cells = occupied_cells(fine or coarse, 48, 1.1, least=.1)
    return coarse, fine, cells, time.process_time() - began


def score(a, row, coarse, fine, cells, o, d, y, depth):
    more, n = dict(fine=samples(a, row), coarse=coarse) if fine else {}, samples(a, row)
    out = render(fine or coarse, o, d, NEAR, FAR, n, cells=cells, **more)
    solid_there = (depth > 0) & (out['opacity'] > .5)
    z = out['depth']/out['opacity'].clamp(min=.01)*d.norm(dim=-1)
    error = (z - depth)[solid_there].abs().median().item()
    return dict(psnr=psnr(out['rgb'], y).mean().item(), depth_error=error)


def main():
    a = arguments()
    torch.set_num_threads(1)
    known = json.loads(a.out.read_text('utf-8')) if a.out.exists() else {}
    (o, d, y, depth), head = scene(a.family, a.size), commit()
    for row in a.rows:
        name = 'scene_psnr' if row == 'best' else f'scene_psnr_{row}'
        if name in known: continue
        *fields, seconds = train(a, row, *(v[:80].reshape(-1, 3) for v in (o, d, y)))
        found = score(a, row, *fields, *(v[80:] for v in (o, d, y, depth)))
        for key, value in {name: found['psnr'], name.replace('psnr', 'depth_error'): found['depth_error'],
                           name.replace('psnr', 'seconds'): seconds}.items():
            known[key] = dict(value=round(value, 3), command=f'python benchmarks/scene.py {row}', seed=a.seed,
                              device='cpu', threads=1, commit=head)
        print(row, found, f'{seconds:.0f} s', flush=True)
        a.out.write_text(json.dumps(known, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
