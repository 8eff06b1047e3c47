"""Occupancy fields: unseen solids from point clouds, and the surface extracted without the empty space.

    python benchmarks/occupancy.py clouds --family car      IoU on solids that training never saw
    python benchmarks/occupancy.py surface --family chair   multi-resolution against dense extraction, 256³

Adds its figures to benchmarks/claims/occupancy.json, unless --dry or --load.
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from origin import add, commit
from trimesh.sample import sample_surface

from instcomp.evaluation.metrics import iou
from instcomp.fields.coords import chunked
from instcomp.fields.fourier import log_spaced
from instcomp.fields.inr import INR, he_init
from instcomp.geometry.mesh import (
    extract_mesh,
    grid_corners,
    labelled_points,
    mise,
    surface_scores,
    unit_gradient,
)
from instcomp.geometry.shapes import FAMILIES, solid
from instcomp.models.occupancy import cloud_model
from instcomp.training.loop import cosine, fit

HERE = Path(__file__).parent
UNSEEN = 100000                                      # first seed of the solids that are only scored


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('what', choices=['clouds', 'surface'])
    p.add_argument('--family', choices=FAMILIES, default='car')
    p.add_argument('--shapes', type=int, default=1000, help='solids to train on')
    p.add_argument('--steps', type=int, default=3500)
    p.add_argument('--batch', type=int, default=16, help='solids in a step')
    p.add_argument('--points', type=int, default=384, help='labelled points of each in a step')
    p.add_argument('--lr', type=float, default=2e-3)
    p.add_argument('--unseen', type=int, default=20, help='solids to score')
    p.add_argument('--refine', type=int, default=100, help='steps of Adam on the code, with labelled points')
    p.add_argument('--save', type=Path, help='keep the trained weights here (.pt)')
    p.add_argument('--load', type=Path, help='weights kept by --save: no training')
    p.add_argument('--picture', type=Path, help='draw four unseen solids: truth and prediction')
    p.add_argument('--dry', action='store_true', help='print, write nothing')
    return p.parse_args()


def example(family, seed, cloud=2048, labels=4096):  # what one solid is to the model
    rng, one = torch.Generator().manual_seed(seed), solid(family, seed)
    surface = one.surface(cloud, rng)[0]
    return surface, *labelled_points(one.inside, surface, labels, .04, rng)


def examples(family, seeds): return [torch.stack(v) for v in zip(*(example(family, s) for s in seeds))]


def train(model, data, a):
    rng, n = torch.Generator().manual_seed(0), len(data[0])

    def loss(i):
        batch = torch.randint(n, (a.batch,), generator=rng)
        signal = [v[batch] for v in data]
        return model.losses(model.encode(signal), signal, a.points, rng).mean()
    opt = torch.optim.Adam(model.parameters(), a.lr, betas=(.9, .99))
    for s in fit(loss, opt, a.steps, schedule=cosine(a.steps, 100), clip=1.):
        if s.step % 100 == 0: print(f'{s.step} {s.loss:.4f} {time.process_time():.0f} s', flush=True)


def scores(model, family, seeds, steps):             # IoU of each solid, 100,000 uniform points in the cube
    out = []
    for seed in seeds:
        x = torch.rand(100000, 3, generator=torch.Generator().manual_seed(seed + 1))*2 - 1
        signal = [v[None] for v in example(family, seed)]
        with torch.no_grad(): logits = model.decode(model.encode(signal, steps), x)
        out.append(iou(logits[..., 0].sigmoid(), solid(family, seed).inside(x)[None].float()).item())
    return out


def picture(model, a, n=4):                          # above: true solids, below: what their clouds became
    import matplotlib.pyplot as plt
    fig, axs = plt.subplots(2, n, figsize=(2.4*n, 3.6), dpi=72, subplot_kw=dict(projection='3d'))
    for k in range(n):
        one = solid(a.family, UNSEEN + k)
        code = model.encode([v[None] for v in example(a.family, UNSEEN + k)])
        fields = [lambda x, one=one: -one.distance(x), lambda x, c=code: model.decode(c, x)[0, :, 0]]
        for ax, f in zip(axs[:, k], fields):
            m = extract_mesh(mise(f, 64, 1)[0])
            ax.plot_trisurf(*m.vertices.T, triangles=m.faces, color=(.45, .62, .8), linewidth=0,
                            antialiased=False)
            ax.view_init(25, -50)
            ax.set_box_aspect((1, 1, 1), zoom=1.6)
            ax.set_axis_off()
            ax.set(xlim=(-.9, .9), ylim=(-.9, .9), zlim=(-.8, 1.))
    axs[0, 0].set_title('truth', fontsize=9)
    axs[1, 0].set_title('from the cloud', fontsize=9)
    fig.subplots_adjust(0, 0, 1, .95, 0, 0)
    fig.savefig(a.picture)


def clouds(a):
    torch.manual_seed(0)
    model, start = cloud_model(), time.process_time()
    if a.load: model.load_state_dict(torch.load(a.load, weights_only=True))
    else: train(model, examples(a.family, range(a.shapes)), a)
    trained = time.process_time() - start
    if a.save: torch.save(model.state_dict(), a.save)
    if a.picture: picture(model, a)
    new = range(UNSEEN, UNSEEN + a.unseen)
    found = {'unseen': scores(model, a.family, new, 0), 'seen': scores(model, a.family, range(a.unseen), 0),
             'unseen_refined': scores(model, a.family, new, a.refine)}
    print({k: (round(statistics.mean(v), 4), round(min(v), 3)) for k, v in found.items()})
    tag = '' if a.family == 'car' else f'_{a.family}'
    return {f'occupancy_iou_{k}{tag}': round(statistics.mean(v), 3) for k, v in found.items()} | {
        f'occupancy_training_seconds{tag}': round(trained)}


def field(one, steps, seed=0):                       # a small network fitted to one solid -> its logits
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    x, y = labelled_points(one.inside, one.surface(20000, rng)[0], 2**18, generator=rng)
    net = INR(log_spaced(3, 96, 16.), hidden=64, depth=4, out_dim=1, init=he_init)

    def loss(i):
        k = torch.randint(len(x), (4096,), generator=rng)
        return F.binary_cross_entropy_with_logits(net(x[k]), y[k])
    for _ in fit(loss, torch.optim.Adam(net.parameters(), 5e-3), steps, schedule=cosine(steps)): pass
    return lambda v: net(v)[:, 0]


def timed(f):                                        # result, processor seconds
    start = time.process_time()
    return f(), time.process_time() - start


def surface(a):
    one = solid(a.family, UNSEEN)
    f, fitting = timed(lambda: field(one, 600))
    (V, count), fast = timed(lambda: mise(f, 64, 2, margin=6.))
    with torch.no_grad(): D, slow = timed(lambda: chunked(f, grid_corners(256).view(-1, 3), 65536, 0))
    few, all_ = extract_mesh(V, f=f), extract_mesh(D.view(V.shape))
    assert (few.faces == all_.faces).all() and abs(few.vertices - all_.vertices).max() < 1e-4
    p, i = sample_surface(few, 100000, seed=0)
    p = torch.tensor(p).float()
    truth = one.surface(100000, torch.Generator().manual_seed(1))
    found = surface_scores(p, -unit_gradient(f, p), *truth)
    x = torch.rand(100000, 3, generator=torch.Generator().manual_seed(2))*2 - 1
    with torch.no_grad(): overlap = iou((f(x)[None] > 0).float(), one.inside(x)[None].float()).item()
    diagonal = (truth[0].amax(0) - truth[0].amin(0)).norm().item()
    return dict(mise_fraction=round(count/V.numel(), 4), mise_seconds=round(fast, 1),
                dense_seconds=round(slow, 1), mise_speedup=round(slow/fast, 1), faces=len(few.faces),
                occupancy_fit_seconds=round(fitting), occupancy_iou_single=round(overlap, 3),
                occupancy_chamfer_relative=round(found['chamfer']/diagonal, 5),
                occupancy_normals=round(found['normals'], 3))


def keep(a, values):
    files = {'--save', str(a.save), '--picture', str(a.picture)}
    command = ' '.join(['python benchmarks/occupancy.py', *(v for v in sys.argv[1:] if v not in files)])
    origin = dict(command=command, seed=0, device='cpu', threads=torch.get_num_threads(),
                  commit=commit())
    add(HERE/'claims'/'occupancy.json', {k: dict(value=v, **origin) for k, v in values.items()})


def main():
    a = arguments()
    values = dict(clouds=clouds, surface=surface)[a.what](a)
    print(json.dumps(values, indent=1))
    if not (a.dry or a.load): keep(a, values)


if __name__ == '__main__': main()
