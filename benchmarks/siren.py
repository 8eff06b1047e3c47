"""SIREN, one signal at a time: a photograph, its gradients, a surface with thin parts.

    python benchmarks/siren.py cameraman     256 x 256, 500 full-batch steps of a SIREN of width 256
    python benchmarks/siren.py relu          the same with ReLU and no encoding
    python benchmarks/siren.py poisson       the photograph from its differences alone
    python benchmarks/siren.py sdf           a stool from points and normals on it

Each writes its figures to benchmarks/claims/siren.json, beside the others there, unless --out says otherwise.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from origin import add, commit
from skimage import data
from skimage.measure import marching_cubes

from instcomp.evaluation.metrics import chamfer, psnr
from instcomp.fields.coords import chunked, grid
from instcomp.fields.inr import INR, he_init
from instcomp.fields.siren import align, eikonal, gradient, sdf_loss, siren
from instcomp.geometry.sdf import Solid, box, capsule, place_solid, torus
from instcomp.training.loop import cosine, fit

CLAIMS = Path(__file__).parent/'claims'/'siren.json'
SETTINGS = dict(cameraman=dict(size=256, steps=500, width=256, first=30., omega=30., lr=1e-3, batch=4096),
                relu=dict(size=256, steps=500, width=256, first=0., omega=0., lr=1e-3, batch=4096),
                poisson=dict(size=128, steps=4000, width=128, first=15., omega=10., lr=2e-4, batch=2048),
                sdf=dict(size=128, steps=4000, width=96, first=10., omega=15., lr=1e-3, batch=1024))
PROTOCOL = dict(
    cameraman='grey values as [-1, 1]; all pixels in each Adam step; PSNR of all pixels, peak 1, unclamped',
    poisson='differences of neighbouring pixels as slopes at the points between them, a random part in each '
            'step; PSNR of all pixels, peak 1, after the best affine map of the values',
    sdf='batch points with normals and as many uniform ones in each step; mean | |gradient| - 1 | of 50,000 '
        'uniform points of the cube; Chamfer-L1 of 30,000 points of the mesh and of the true surface, as a '
        'part of the diagonal of its box')
PROTOCOL['relu'] = PROTOCOL['cameraman']


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = p.add_subparsers(dest='signal', required=True)
    for signal, settings in SETTINGS.items():
        q = commands.add_parser(signal)
        for name, value in settings.items(): q.add_argument(f'--{name}', type=type(value), default=value)
        q.add_argument('--seed', type=int, default=0)
        q.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
        q.add_argument('--out', type=Path, default=CLAIMS)
    sdf = commands.choices['sdf']
    sdf.add_argument('--weights', type=float, nargs=4, default=[3000., 100., 100., 100.])   # of sdf_loss
    return p.parse_args()


def cameraman(size):                                 # grey values in [0, 1], (size, size, 1)
    image = torch.from_numpy(data.camera()).float()/255
    return F.interpolate(image[None, None], (size, size), mode='area')[0, 0, ..., None]


def network(a, in_dim=2, start=0.):
    if a.first: return siren(in_dim, a.width, 5, 1, a.first, a.omega, out_bias=start).to(a.device)
    return INR(None, in_dim, a.width, 5, 1, init=he_init).to(a.device)


def run(a, net, loss, accumulate=1):                 # trains net in place; says how far it is
    opt = torch.optim.Adam(net.parameters(), a.lr, betas=(.9, .99))
    for s in fit(loss, opt, a.steps, schedule=cosine(a.steps, 20, .01), accumulate=accumulate):
        if s.step % max(1, a.steps//10) == 0: print(f'step {s.step}: loss {s.loss.item():.3g}', flush=True)


def values(net, x):
    with torch.no_grad(): return chunked(net, x, 16384)


def image(a):                                        # cameraman, relu -> decibels
    y = cameraman(a.size).to(a.device).flatten(0, 1)                                        # N 1
    x = grid((a.size, a.size), device=a.device).flatten(0, 1)                               # N 2
    parts = list(zip(x.split(a.batch), (y*2 - 1).split(a.batch)))                           # equal ones
    if len(parts)*a.batch != len(x): raise SystemExit(f'--batch {a.batch} does not divide {len(x)} pixels')

    net = network(a)

    def loss(i):
        p, target = parts[i % len(parts)]
        return (net(p) - target).square().mean()
    run(a, net, loss, len(parts))
    return {f'{"siren" if a.signal == "cameraman" else "relu"}_cameraman_psnr':
            psnr((values(net, x)[None] + 1)/2, y[None]).item()}


def poisson(a):                                      # -> decibels after the affine map
    y, x = cameraman(a.size).to(a.device), grid((a.size, a.size), device=a.device)          # H W 1, H W 2
    slope = y.new_tensor([a.size/2])*2               # [-1, 1] holds size pixels; values in [-1, 1] as well
    sides = [((x[1:] + x[:-1]).view(-1, 2)/2, (y[1:] - y[:-1]).view(-1)*slope),             # down
             ((x[:, 1:] + x[:, :-1]).reshape(-1, 2)/2, (y[:, 1:] - y[:, :-1]).reshape(-1)*slope)]  # right
    net = network(a)

    def loss(i):
        k = torch.randint(len(sides[0][0]), (a.batch//2,), device=a.device)
        g = gradient(net, torch.cat([points[k] for points, _ in sides]))
        seen = torch.cat([half[:, axis] for axis, half in enumerate(g.chunk(2))])
        return (seen - torch.cat([target[k] for _, target in sides])).square().mean()
    run(a, net, loss)
    out = values(net, x.flatten(0, 1)).view(1, a.size, a.size)
    return dict(poisson_psnr=psnr(align(out, y[None, ..., 0]), y[None, ..., 0]).item())


def stool():                                         # seat, four splayed legs of radius .03, a ring
    legs = [capsule((.5*i, .5*j, -.8), (.3*i, .3*j, .45), .03) for i in (-1, 1) for j in (-1, 1)]
    round_ring = torus((.58, -.35), (.58, -.35), .025)
    seat = place_solid(box((.45, .45, .05)), (0., 0., .48))
    return Solid([(f, (.6, .4, .2)) for f in [*legs, round_ring, seat]])


def surface_points(vertices, faces, n, rng):         # uniform on the triangles: (n, 3)
    a, b, c = vertices[faces].unbind(1)
    k = torch.multinomial((b - a).cross(c - a, dim=1).norm(dim=1), n, True, generator=rng)
    u, v = torch.rand(2, n, 1, generator=rng)
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    return a[k] + u*(b - a)[k] + v*(c - a)[k]


def sdf(a):                                          # -> eikonal deviation, relative Chamfer distance
    rng, device = torch.Generator().manual_seed(a.seed), a.device
    points, normals = (v.to(device) for v in stool().surface(100_000, rng))
    net = network(a, 3, .3)                          # outside is the side to start from

    def loss(i):
        k = torch.randint(len(points), (a.batch,), device=device)
        return sdf_loss(net, points[k], normals[k], torch.rand(a.batch, 3, device=device)*2 - 1, a.weights)
    run(a, net, loss)
    volume = values(net, grid((a.size,)*3, device=device).view(-1, 3)).view((a.size,)*3).cpu().numpy()
    v, f, *_ = marching_cubes(volume, 0., spacing=(2/a.size,)*3)
    v, f = torch.from_numpy(v.copy()).float() - 1 + 1/a.size, torch.from_numpy(f.copy()).long()
    print(f'{len(v)} vertices in the box', v.amin(0).tolist(), v.amax(0).tolist())
    mesh, true = surface_points(v, f, 30_000, rng), points[:30_000].cpu()
    diagonal = (points.amax(0) - points.amin(0)).norm().item()
    with torch.no_grad():
        space = torch.rand(50_000, 3, generator=rng).to(device)*2 - 1
        off = torch.stack([eikonal(gradient(net, p)) for p in space.split(5000)]).mean().item()
    return dict(eikonal_deviation=off, sdf_chamfer_relative=chamfer(mesh[None], true[None]).item()/diagonal)


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    began, busy = time.perf_counter(), time.process_time()
    scores = dict(cameraman=image, relu=image, poisson=poisson, sdf=sdf)[a.signal](a)
    origin = dict(command=' '.join(['python benchmarks/siren.py', *sys.argv[1:]]), seed=a.seed,
                  device=a.device, threads=torch.get_num_threads(), commit=commit(),
                  protocol=PROTOCOL[a.signal], settings={k: getattr(a, k) for k in SETTINGS[a.signal]},
                  wall_seconds=round(time.perf_counter() - began),
                  processor_seconds=round(time.process_time() - busy))
    new = {k: dict(value=round(v, 4), **origin) for k, v in scores.items()}
    add(a.out, new)
    print(json.dumps(new, indent=1))


if __name__ == '__main__': main()
