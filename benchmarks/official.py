"""Views beside the official code, in one process, turn by turn: a training step and a 128 x 128 picture.

    python benchmarks/official.py fit                    one scene into --field, about 4 minutes of one thread
    python benchmarks/official.py agree  --peer FOLDER   same weights, same rays: the same colours, gradients
    python benchmarks/official.py step   --peer FOLDER   the paper's step for views: batch 4, 128 rays x 128
    python benchmarks/official.py render --peer FOLDER   one view of the fitted scene at equal PSNR

FOLDER is a checkout of kakaobrain/ginr-ipc (135f55c); its code is only called; it wants einops and omegaconf.
Without --peer, `step` and `render` measure our half. Both sides compute in fp32; dropout .1 and normalised
weights on both sides of `step`, which begins with 128 chosen rays and ends with the update. `render` compares
its renderer with 1,024 rays at once with `render_views`, cells and all (`stop` .01), from the scene's code.
Every pair gives one ratio, the claim is their median. Writes its part of benchmarks/official.json, and of
benchmarks/claims/views_speed.json where FOLDER was given.
"""
import argparse
import dataclasses
import importlib
import json
import os
import resource
import statistics
import sys
import time
import types
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from origin import add, commit
from safetensors.torch import load_file, save_file

from instcomp.data.scenes import Scene, SceneSource, scene_signal
from instcomp.data.synthetic_views import object_views, on_white
from instcomp.evaluation.metrics import psnr
from instcomp.experiments.builder import build
from instcomp.geometry.camera import pinhole, pixels, rays
from instcomp.geometry.rendering import composite, occupied_cells
from instcomp.models.radiance import instance_field, render_views
from instcomp.training.loop import cosine, fit
from instcomp.training.trainer import optimizer, train_settings

HERE = Path(__file__).parent
DATACLASS = dataclasses.dataclass
ROW, SIZE, ANGLE = 'nvs-ipc-paper-cars', 128, .54


NERF = ('src.models.generalizable_INR_nerf.low_rank_modulated_transinr_nerf.LowRankModulatedTransINRNerf',
        'nvs/low_rank_transinr_nerf/low_rank_shapenet_cars')


def hashable(kind=None, **how):                      # defaults of their settings, as Python 3.11 asks
    if kind is None: return partial(hashable, **how)
    mine = dict(unsafe_hash=True) if kind.__module__.startswith('src.models') else {}
    return DATACLASS(kind, **(mine | how))


def peer(folder, name=NERF[0], row=NERF[1]):         # the official model of a row, by default of views
    np.product = np.prod                             # it asks an older numpy
    sys.path.append(str(folder/'src'))
    for room, path in (('src', 'src'), ('src.models', 'src/models'), ('utils', 'src/utils')):
        module = types.ModuleType(room)              # without what their __init__ would load
        module.__path__ = [str(folder/path)]
        sys.modules.setdefault(room, module)
    from omegaconf import OmegaConf
    home, _, kind = name.rpartition('.')
    with mock.patch('dataclasses.dataclass', hashable):
        kind = getattr(importlib.import_module(home), kind)
    row = OmegaConf.load(folder/f'configs/{row}.yaml').arch
    return kind(OmegaConf.merge(kind.Config.create(row), row))


def renamed(theirs):                                 # official tensors under our names
    out = {'encoder.pos': theirs['latent_mapping.pos_emb_latent'][0],
           'encoder.weight_tokens': theirs['weight_groups.weight_groups']}
    for i in range(6):
        both = theirs[f'hyponet.params_dict.linear_wb{i}']
        both = both.roll(int(i == 5), 1)                  # density is our first value, their last
        out[f'inr.W.{i}'], out[f'inr.b.{i}'] = both[:-1], both[-1]
    out['inr.W.1'] = theirs['shared_factor.linear_wb1'][0]
    for w in ('weight', 'bias'):
        out[f'encoder.embed.{w}'] = theirs[f'latent_mapping.latent_mapping.{w}']
        out[f'encoder.heads.V.norm.{w}'] = theirs[f'group_modulation_postfc.linear_wb1.0.{w}']
        out[f'encoder.heads.V.map.{w}'] = theirs[f'group_modulation_postfc.linear_wb1.1.{w}']
        for j in range(6):
            a, b = f'transformer.blocks.{j}.', f'encoder.blocks.{j}.'
            for name, there in dict(n1='ln1', n2='ln2', proj='attn.proj', up='mlp.0', down='mlp.2').items():
                out[f'{b}{name}.{w}'] = theirs[f'{a}{there}.{w}']
            out[f'{b}qkv.{w}'] = torch.cat([theirs[f'{a}attn.{k}.{w}'] for k in ('query', 'key', 'value')])
    return out


def ours(theirs=None):                               # our model, with the official weights if there are any
    torch.manual_seed(0)
    model = build(ROW, 'cpu')
    if theirs is not None:
        lacking = model.load_state_dict(renamed(theirs.state_dict()), strict=False)
        assert not lacking.unexpected_keys and all('freq' in k for k in lacking.missing_keys), lacking
    return model


def scene(views=50, number=7):
    out = object_views('car', number, views, SIZE, ANGLE)
    return Scene(on_white(out['pictures']), out['poses'], pinhole(SIZE, SIZE, ANGLE))


def batch(n):                                        # ours, and the same for the official code
    one = scene(6)
    made = SceneSource([one], 1, 128, 1).batch(n, SIZE, np.random.default_rng(0), [0]*n)
    shown = made['support']
    fx = torch.full((n, 1, 2), pinhole(SIZE, SIZE, ANGLE).fx)
    found = [min(range(6), key=lambda v: (one.images[v] - s[0, :3]).abs().sum()) for s in shown]
    poses = one.poses[found][:, None, :3]
    return made, dict(support_imgs=shown[:, :, :3], support_poses=poses, support_focals=fx)


def steps(n, theirs):                                # name -> one training step
    mine, given = batch(n)
    model = ours(theirs).train()
    row = train_settings(model.config)
    opt, how = optimizer(model, row), dict(noise=row['noise'])

    def our_step():
        loss = model.losses(model.encode(mine, **how), mine, **how).mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
    if theirs is None: return dict(ours=our_step)
    old = torch.optim.Adam(theirs.train().parameters(), lr=1e-4)

    def their_step():
        theirs.zero_grad(set_to_none=True)
        x, z = theirs.sample_coord_input(mine['origin'], mine['direction'], torch.tensor([[2., 6.]]),
                                         augment=True, with_z_values=True)
        rgb = theirs(**given, coord=x, z_values=z, is_train=True)
        theirs.compute_loss(rgb, mine['colour'])['loss_total'].backward()
        old.step()
    return dict(official=their_step, ours=our_step)


def agree(a):
    "Largest difference of colours, and of gradients relative to their length, without dropout and jitter."
    theirs, (mine, given) = peer(a.peer), batch(2)
    with torch.no_grad():                            # biases begin at 0, where a mistake would not show
        for name, p in theirs.named_parameters():
            if name.startswith('hyponet.params_dict'): p[-1].normal_(0, .3)
        theirs.hyponet.params_dict['linear_wb5'][-1, 3] = 2.                     # something to see
    model, z_range = ours(theirs), torch.tensor([[2., 6.]])
    for block in (*theirs.transformer.blocks,): block.mlp[3].p = block.attn.resid_drop.p = 0.
    for block in model.encoder.blocks: block.p = 0.
    x, z = theirs.sample_coord_input(mine['origin'], mine['direction'], z_range, with_z_values=True)
    theirs_rgb = theirs(**given, coord=x, z_values=z)
    width = torch.cat([z.diff(dim=-1), torch.full_like(z[:, :1], 1e-3)], -1)
    code = model.encode(mine)
    rgb = composite(model.decode(code, x, True), z.expand(len(x), -1, -1), width)['rgb']
    for out in (theirs_rgb, rgb): (out - mine['colour']).square().mean().backward()
    wanted = {k: p.grad if p.grad is not None else torch.zeros_like(p) for k, p in theirs.named_parameters()}
    wanted = renamed(theirs.state_dict() | wanted)
    far = {k: ((p.grad - wanted[k]).norm()/wanted[k].norm()).item() for k, p in model.named_parameters()}
    worst = max(far, key=far.get)
    keep(a, 'agree', dict(colour=(rgb - theirs_rgb).abs().max().item(), gradient=far[worst], worst=worst),
         dict(official_views_max_colour_difference='colour', official_views_worst_gradient='gradient'))


def clock(f):
    "Seconds by the wall, seconds of the processor."
    wall, cpu = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter() - wall, time.process_time() - cpu


def paired(jobs, n):                                 # jobs: official first; one to warm up
    for f in jobs.values(): f()
    rows = [{k: clock(f) for k, f in jobs.items()} for _ in range(n)]
    middle = statistics.median
    out = {k: dict(seconds=middle(r[k][0] for r in rows), cpu=middle(r[k][1] for r in rows)) for k in jobs}
    if 'official' in jobs:
        for i, name in enumerate(('ratio', 'ratio_cpu')):
            out[name] = middle(r['official'][i]/r['ours'][i] for r in rows)
        out['ratios'] = [r['official'][0]/r['ours'][0] for r in rows]
    return out


def step(a):
    theirs = peer(a.peer) if a.peer else None
    table = paired(steps(a.batch, theirs), a.pairs) | dict(batch=a.batch, load=os.getloadavg())
    keep(a, 'step', table, dict(nvs_step_ratio='ratio', nvs_step_ratio_cpu='ratio_cpu'))


def memory(a):
    "Peak of one side, in a process of its own: with --peer the official one."
    theirs = peer(a.peer) if a.peer else None
    side = 'official' if a.peer else 'ours'
    steps(a.batch, theirs)[side]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    keep(a, f'memory {side}', dict(mb=round(peak), batch=a.batch), {f'{side}_nvs_step_peak_mb': 'mb'})


def fitted(a):                                       # the scene's model and its code
    model, tensors = ours().eval().requires_grad_(False), load_file(a.field)
    code = tensors.pop('code')
    model.load_state_dict(tensors, strict=False)
    return model, code


def fit_scene(a):
    "The paper's network and one code, all but the last five of 50 views; ReLU densities, its own widths."
    model, views = ours(), scene()
    code = (torch.randn(1, *model.modulator.code_shape)/16).requires_grad_()
    with torch.no_grad(): model.inr.W[1].mul_(16)
    every = scene_signal(views, torch.tensor([0]), torch.arange(45))
    seen = (every['colour'].amin(-1) < 1).nonzero()[:, 0]
    opt = torch.optim.Adam([code, *model.inr.parameters()], 1e-3, fused=True)

    def loss(i):
        k = torch.randint(len(every['colour']), (a.rays,))
        k[::2] = seen[torch.randint(len(seen), (len(k[::2]),))]
        part = {name: every[name][None, k] for name in ('origin', 'direction', 'colour')}
        return model.losses(code, part, noise='instance').mean()
    model.query = partial(model.query, points=64)
    for s in fit(loss, opt, a.steps, schedule=cosine(a.steps, 50, .02)):
        if s.step % 100 == 0: print(s.step, f'{s.loss.item():.5f}', flush=True)
    a.field.parent.mkdir(exist_ok=True)
    inr = {f'inr.{k}': v.detach() for k, v in model.inr.state_dict().items()}
    save_file(inr | dict(code=code.detach()), a.field)


@torch.no_grad()
def render(a):
    model, code = fitted(a)
    views, lens = scene(), pinhole(SIZE, SIZE, ANGLE)
    target, pose, shape, got = views.images[-1], views.poses[-1], (SIZE, SIZE), {}
    cells = occupied_cells(instance_field(model, code), a.cells)

    def look(key, **how):
        got[key] = render_views(model, code, pose, lens, shape, **how)['rgb'].permute(2, 0, 1)
    jobs = dict(ours=lambda: look('ours', cells=cells, stop=.01),                # cells of another view
                with_cells=lambda: look('ours', stop=.01,
                                        cells=occupied_cells(instance_field(model, code), a.cells)))
    look('everywhere')
    if a.peer:
        theirs = peer(a.peer).eval()
        new = {}
        for i in range(6):
            W, b = model.inr.W[i], model.inr.b[i]
            both = torch.cat([torch.ones(256, 256) if i == 1 else W, b[None]])
            new[f'linear_wb{i}'] = both.roll(-int(i == 5), 1)
        for k, p in theirs.hyponet.params_dict.items(): p.copy_(new[k])
        o, d = (v.reshape(1, -1, 3) for v in rays(pose, lens, pixels(*shape)))
        given = dict(z_range=torch.tensor([[2., 6.]]), ray_subbatch_size=1024,
                     modulation_params_dict=dict(linear_wb1=code @ model.inr.W[1]))

        def their_view():
            rgb = theirs.forward_with_params(o, d, **given)
            got['official'] = rgb[0].T.unflatten(1, shape)
        jobs = dict(official=their_view) | jobs
    table = paired(jobs, a.pairs)
    if a.peer: table['ratio_with_cells'] = table['official']['seconds']/table['with_cells']['seconds']
    table |= dict(psnr={k: psnr(v[None], target[None]).item() for k, v in got.items()}, cells=a.cells)
    table |= dict(full=cells.full.float().mean().item(), load=os.getloadavg())
    if a.picture: picture(a, got, target)
    table['psnr_gap'] = table['psnr'].get('official', float('nan')) - table['psnr']['ours']
    keep(a, 'render', table, dict(render_ratio='ratio', render_ratio_with_cells='ratio_with_cells',
                                  render_psnr_gap='psnr_gap'))


def picture(a, got, target):
    from instcomp.evaluation.plot import save, show
    save(show([target, *got.values()], ['target', *got], 4, 2.), a.picture)


def keep(a, part, table, claims):                    # into both files, beside what is there
    print(part, json.dumps(table, indent=1))
    key = part if a.peer or part.startswith('memory') else f'{part}, our half'
    add(HERE/'official.json', {key: table})
    if not a.peer and not part.startswith('memory'): return
    command = f'python benchmarks/official.py {part.split()[0]}' + (' --peer FOLDER' if a.peer else '')
    said = dict(command=command, seed=0, device='cpu', threads=torch.get_num_threads(), commit=commit())
    new = {k: dict(value=float(f'{table[v]:.3g}'), **said) for k, v in claims.items()}
    add(HERE/'claims'/'views_speed.json', new)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('part', choices=['fit', 'agree', 'step', 'memory', 'render'])
    p.add_argument('--peer', type=Path)
    p.add_argument('--batch', type=int, default=4)
    p.add_argument('--pairs', type=int, default=3)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--steps', type=int, default=1200, help='of fit')
    p.add_argument('--rays', type=int, default=128, help='of a step of fit')
    p.add_argument('--cells', type=int, default=32, help='along each axis')
    p.add_argument('--field', type=Path, default=HERE.parent/'runs'/'one-car.safetensors')
    p.add_argument('--picture', type=Path, help='where to put what was seen')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    parts = dict(fit=fit_scene, agree=agree, step=step, memory=memory, render=render)
    parts[a.part](a)


if __name__ == '__main__': main()
