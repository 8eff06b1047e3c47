"Gradient steps as an encoder: exact outer gradients, no batch effects, and runs that survive being killed."
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from instcomp.data.batches import Crops, photos
from instcomp.experiments.builder import build, load, shipped
from instcomp.experiments.image import METHOD_PRESETS, TINY, WAVES
from instcomp.fields.fourier import log_spaced
from instcomp.fields.inr import INR
from instcomp.models.ginr import GINR
from instcomp.models.ipc import IPC
from instcomp.models.meta import GradientEncoder, WeightsAsCode, adapt, matched_code, optimise, shuffled_code
from instcomp.models.modulation import Concatenate, Full, Shift
from instcomp.tasks.image import query
from instcomp.training.trainer import Objective, train

HERE = Path(__file__).parent
PLAIN = dict(scale_by_norm=False)


def net(modulate, **how):
    "A small network in float64 whose encoder takes gradient steps; sines, so that it is smooth."
    torch.manual_seed(0)
    inr = INR(log_spaced(2, 8, 4.), hidden=6, depth=4, normalize=True, out_bias=.5, act=torch.sin)
    modulator = modulate(inr)
    return GINR(inr, modulator, GradientEncoder(modulator.code_shape, **how), query).double()


WAYS = {
    'composer': (lambda inr: IPC(inr, 1, 4), dict(lr=.1)),
    'last layer': (lambda inr: IPC(inr, 3, 3), dict(lr=.1)),
    'concatenated': (lambda inr: Concatenate(inr, 5), dict(lr=1., **PLAIN)),
    'shifts, learned rates': (Shift, dict(lr=(.005, .1), **PLAIN)),
    'all weights': (Full, dict(lr=.1, std=0., **PLAIN)),
    'learned weights': (WeightsAsCode, dict(lr=.1, std=None)),
}


def picture(n=3): return torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(1)).double()


def outer(model, images): return model.losses(model.encode(images), images).mean()


@pytest.mark.parametrize('way', WAYS)
def test_second_order_gradient_is_that_of_finite_differences(way):
    "Along random directions of every learned tensor, through two steps."
    model, images, g = net(WAYS[way][0], **WAYS[way][1]), picture(), torch.Generator().manual_seed(2)
    outer(model, images).backward()
    for name, p in model.named_parameters():
        if not p.requires_grad: continue
        assert p.grad is not None, f'{name} has no gradient'
        d, h, at = torch.randn(p.shape, generator=g, dtype=p.dtype), 1e-6, p.detach().clone()
        values = []
        for s in (h, -h):
            with torch.no_grad(): p.copy_(at + s*d)
            values.append(outer(model, images).item())
        with torch.no_grad(): p.copy_(at)
        expected = (values[0] - values[1])/(2*h)
        assert (p.grad*d).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-8), name


@pytest.mark.parametrize('way', WAYS)
def test_one_alone_is_one_of_eight(way):
    model, images = net(WAYS[way][0], **WAYS[way][1]).eval(), picture(8)
    parts = lambda code: code if isinstance(code, dict) else dict(V=code)
    with torch.no_grad(): many = parts(model.encode(images))
    for i in (0, 5):
        with torch.no_grad(): one = parts(model.encode(images[i:i+1]))
        for name in one: torch.testing.assert_close(one[name], many[name][i:i+1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('way', WAYS)
def test_inside_no_grad_the_code_is_the_same_and_no_graph_is_left(way):
    model, images = net(WAYS[way][0], **WAYS[way][1]), picture()
    parts = lambda code: list(code.values()) if isinstance(code, dict) else [code]
    graph = parts(model.encode(images))
    with torch.no_grad(): quiet = parts(model.eval().encode(images))
    for a, b in zip(graph, quiet):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert a.requires_grad and not b.requires_grad
    assert all(p.grad is None for p in model.parameters()), 'steps on a code leave the weights alone'


def test_adapt_inside_no_grad_from_a_parameter():
    start = torch.nn.Parameter(torch.randn(4))
    loss = lambda code: code.square().sum(1)
    with torch.no_grad(): code = adapt(start.expand(3, 4), loss, 2, .1, scale_by_norm=False)
    torch.testing.assert_close(code, start.detach().expand(3, 4)*.8**2)


def test_rates_of_a_dict_go_by_name():
    code = dict(a=torch.randn(2, 3), b=torch.randn(2, 4))
    loss = lambda c: c['a'].square().sum(1) + c['b'].square().sum(1)
    new = adapt(code, loss, 1, dict(b=.1, a=0.), scale_by_norm=False)
    assert torch.equal(new['a'], code['a']) and list(new) == list(code)
    torch.testing.assert_close(new['b'], .8*code['b'])
    for wrong in dict(a=.1), dict(a=.1, c=.1):
        with pytest.raises(ValueError, match='lr has'): adapt(code, loss, 1, wrong)


@pytest.mark.skipif('photos-ipc' not in shipped(), reason='weights not in this checkout')
@pytest.mark.parametrize('name', ['photos-ipc', 'image-cavia'])
def test_few_steps_never_spoil_a_prediction(name):
    model, few = load(name, 'cpu'), []
    images = torch.stack(list(Crops(photos('test')).fixed(model.config['size'], n=2)))
    with torch.no_grad():
        for steps in (0, 1, 3, 8): few.append(model.losses(model.encode(images, steps), images).log().mean())
    assert all(later < few[0] for later in few[1:])


def test_thirty_steps_begin_at_the_full_rate():
    code = torch.full((1, 3), 5.)
    moved = lambda steps: (optimise(code, lambda c: -c.sum(1), steps, .1) - code).mean().item()
    full = lambda n: sum(.05*(1 + math.cos(math.pi*i/n)) for i in range(n))
    assert moved(30) == pytest.approx(full(30), rel=1e-3) and moved(3) == pytest.approx(.1*full(3), rel=1e-3)


def test_shared_layers_are_computed_once(monkeypatch):
    "Fourier features and first layer: once for both inner steps, once for the outer loss."
    model, images, calls = net(WAYS['composer'][0], lr=.1), picture(), []
    model.inr.encoding.register_forward_hook(lambda *_: calls.append(1))
    outer(model, images)
    assert len(calls) == 2


def test_the_losses_of_an_objective_are_those_of_losses():
    "Whatever mode it is first asked in, gradients reach the shared layers afterwards."
    model, images = net(WAYS['composer'][0], lr=.1), picture()
    code, ask = model.encode(images).detach(), model.objective(images)
    with torch.no_grad(): first = ask(code)
    again = ask(code)
    torch.testing.assert_close(first, model.losses(code, images), rtol=1e-12, atol=1e-12)
    again.sum().backward()
    assert model.inr.W[0].grad.abs().sum() > 0


def test_inner_steps_see_one_drawing_and_the_outer_loss_another():
    model, images, seen = net(WAYS['composer'][0], lr=.1, steps=3), picture(), []
    model.inr.encoding.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    Objective(model, 'shared', 'shared', .5)(images, torch.Generator().manual_seed(0))
    assert [len(x) for x in seen] == [12, 12] and not torch.equal(seen[0], seen[1])


def test_scaled_starts_adapt_to_the_same_network():
    "Relative steps: a start ten times as large ends ten times as far, with the same picture."
    small, images = net(WAYS['composer'][0], lr=.1).eval(), picture()
    large = net(WAYS['composer'][0], lr=.1).eval()
    with torch.no_grad(): large.encoder.start['V'] *= 10
    with torch.no_grad(): a, b = small.encode(images), large.encode(images)
    torch.testing.assert_close(10*a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(small.losses(a, images), large.losses(b, images), rtol=1e-10, atol=0)


def test_shuffled_keeps_the_numbers():
    code = dict(a=torch.randn(2, 3, 4), b=torch.randn(2, 5))
    new = shuffled_code(code, torch.Generator().manual_seed(0))
    for k in code:
        assert not torch.equal(code[k], new[k])
        assert torch.equal(code[k].flatten(1).sort(1)[0], new[k].flatten(1).sort(1)[0])


def test_matched_draws_the_same_from_other_numbers():
    "A linear drawing with a null space: what is drawn is met, what is not drawn stays noise."
    rng = torch.Generator().manual_seed(0)
    start = dict(a=torch.randn(1, 3, 4, generator=rng), b=3*torch.randn(1, 5, generator=rng))
    draw = lambda c: torch.stack([c['a'].sum((1, 2)), c['b'].sum(1)], 1)
    away = lambda c: (draw(c) - draw(start)).square().mean(1)
    noise, met = (matched_code(start, away, steps, torch.Generator().manual_seed(1)) for steps in (0, 200))
    assert away(noise) > .1 and away(met) < 1e-4*away(noise)
    for k in start:
        torch.testing.assert_close(noise[k].norm(), start[k].norm())
        assert (met[k] - start[k]).norm() > .3*start[k].norm()


@pytest.mark.parametrize('how, word', [(dict(steps=-1), 'steps'), (dict(order=3), 'order'),
                                       (dict(lr=(.1, .2), order=1), 'order=2')])
def test_impossible_steps_are_refused_in_one_line(how, word):
    with pytest.raises(ValueError, match=word) as error: GradientEncoder((3, 2), **how)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', [*TINY, *WAVES])
def test_tiny_methods_train(name):
    "Every learned tensor has a finite gradient."
    torch.manual_seed(0)
    model, images = build(name), torch.rand(2, 3, 32, 32)
    model.losses(model.encode(images), images).sum().backward()
    for key, p in model.named_parameters():
        if p.requires_grad: assert p.grad is not None and p.grad.isfinite().all(), key


def test_methods_build():
    for name in METHOD_PRESETS:
        with torch.device('meta'): model = build(name)
        assert model.config['encoder']['name'] in ('gradient', 'conv')


@pytest.mark.skipif('image-cavia' not in shipped(), reason='weights not in this checkout')
def test_shipped_weights_load_and_gain_from_their_steps():
    model, images = load('image-cavia', 'cpu'), torch.rand(2, 3, 32, 32)
    images = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    with torch.no_grad(): after = model.losses(model.encode(images), images)
    model.encoder.steps = 0
    with torch.no_grad(): before = model.losses(model.encode(images), images)
    assert (after < before).all()


def tensors(out): return {path.name: load_file(path) for path in sorted((out/'state').glob('*.safetensors'))}


def test_a_killed_run_resumes_to_the_bit(tmp_path):
    before, at = torch.get_num_threads(), random.randrange(12, 47)
    env = os.environ | dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE', PYTHONPATH=f'{HERE.parent}')
    command = [sys.executable, str(HERE/'tiny.py'), str(tmp_path/'killed'), 'learned=true', f'kill={at}']
    killed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((tmp_path/'killed'/'state'/'state.json').read_text())['step'] == at//2//5*5
    try:
        torch.set_num_threads(1)
        for name, resume in ('whole', False), ('killed', True):
            train(tiny.model(learned=True), tiny.config(), tiny.Batches(), tmp_path/name, resume=resume,
                  device='cpu', precision='fp32', bar=False)
    finally: torch.set_num_threads(before)
    a, b = tensors(tmp_path/'whole'), tensors(tmp_path/'killed')
    assert a.keys() == b.keys() and 'optim.safetensors' in a
    for file in a:
        for key in a[file]: assert torch.equal(a[file][key], b[file][key]), f'{file}: {key}'
