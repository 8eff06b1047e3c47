"CUDA and CPU compute the same: forward, gradient, one training step. Skipped by name without a card."
from importlib.util import find_spec

import pytest
import tiny
import torch

from instcomp.fields.coords import grid
from instcomp.models.attention import ROADS
from instcomp.training.device import Way, device_of, going, precision_of, ways
from instcomp.training.trainer import Objective, choices, train

pytestmark = pytest.mark.gpu
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))


@pytest.fixture(autouse=True)
def exact():
    "TF32 would round the products of the card to 10 bits."
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = kept


def flat(tensors): return torch.cat([t.detach().cpu().flatten() for t in tensors])


def close(a, b, tolerance): assert (a - b).norm() <= tolerance*b.norm(), float((a - b).norm()/b.norm())


def test_forward_cuda():
    net = tiny.model().eval()
    with torch.no_grad():
        here = net(IMAGES, grid((13, 13)))
        there = net.cuda()(IMAGES.cuda(), grid((13, 13), device='cuda'))
    close(there.cpu(), here, 1e-5)


def test_gradient_cuda():
    found = []
    for device in ['cpu', 'cuda']:
        net, images = tiny.model(0.).to(device), IMAGES.to(device)
        net.losses(net.encode(images), images).sum().backward()
        found.append(flat(p.grad for p in net.parameters()))
    close(found[1], found[0], 1e-4)


@pytest.mark.parametrize('precision, tolerance', [('fp32', .02), ('bf16', .5), ('fp16', .5)])
def test_training_step_cuda(tmp_path, precision, tolerance):
    before, moved = flat(tiny.model(0.).parameters()), []
    plain = dict(noise=None, subsample=None, fraction=1., lr=1e-3, warmup=0, steps=1, every=1)
    for device, name in [('cpu', 'fp32'), ('cuda', precision)]:
        net = tiny.model(0.)
        options = dict(device=device, precision=name, bar=False)
        done = train(net, tiny.config(**plain), tiny.Batches(), tmp_path/device, **options)
        assert done['precision'] == name and done['device'].startswith(device)
        moved.append(flat(net.parameters()) - before)
    close(moved[1], moved[0], tolerance)


def test_resume_cuda(tmp_path):
    "The state comes back to the card: a run in two parts ends near the run in one."
    whole, parts = tiny.model(), tiny.model()
    options = dict(device='cuda', precision='fp32', bar=False)
    train(whole, tiny.config(schedule='constant'), tiny.Batches(), tmp_path/'whole', **options)
    train(parts, tiny.config(schedule='constant', steps=10), tiny.Batches(), tmp_path/'parts', **options)
    train(parts, tiny.config(schedule='constant'), tiny.Batches(), tmp_path/'parts', resume=True, **options)
    close(flat(parts.parameters()), flat(whole.parameters()), 1e-4)


def test_auto_cuda():
    assert device_of().type == 'cuda'
    assert precision_of('auto', device_of()) in ('fp32', 'bf16', 'fp16')
    with pytest.raises(ValueError, match='no such card'): device_of('cuda:99')


@pytest.mark.parametrize('way', [Way('fp32', road, compiled) for road in ROADS for compiled in (False, True)],
                         ids=lambda way: f'{way.attention}{" compiled" if way.compiled else ""}')
def test_every_way_computes_the_same_cuda(way):
    "Gradients by either road, compiled or not, beside the CPU's."
    found = []
    for device, how in [('cpu', Way('fp32', 'kernel')), ('cuda', way)]:
        net = tiny.model(0.).to(device)
        objective = Objective(net)
        if how.compiled: objective.compile()
        with going(how, torch.device(device)): loss = objective(IMAGES.to(device)).sum()
        loss.backward()
        found.append(flat(p.grad for p in net.parameters()))
    close(found[1], found[0], 1e-4)


def test_auto_times_compiled_steps_cuda(tmp_path):
    "What may be compiled is tried so; the run says what it took, and a resumed one keeps it."
    cuda = device_of('cuda')
    assert any(way.compiled for way in ways('auto', cuda, True, True)) == bool(find_spec('triton'))
    assert not any(way.compiled for way in choices(tiny.model(learned=True), {}, 'auto', cuda))
    options = dict(device='cuda', precision='auto', bar=False)
    took = [train(tiny.model(), tiny.config(steps=n), tiny.Batches(), tmp_path/'run', resume=n > 5, **options)
            for n in (5, 10)]
    assert all(took[0][name] == took[1][name] for name in Way._fields) and took[0]['attention'] == 'kernel'
