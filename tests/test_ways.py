"Every way to compute a step gives the same numbers to rounding; what a run chose is kept, by every process."
import json
import platform
import subprocess
import sys

import pytest
import tiny
import torch
import torch.nn.functional as F

from instcomp.fields.inr import linear, mlp
from instcomp.models.attention import KEPT, ROADS, attention, by_heads, taking
from instcomp.models.radiance import mlp_sparse_grad
from instcomp.training import trainer
from instcomp.training.device import Way, going, ways
from instcomp.training.trainer import choices, train

CPU = torch.device('cpu')


def gradients(f, tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = f(*leaves)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return [y.detach(), *torch.autograd.grad((y*weights).sum(), leaves)]


def far(a, b): return ((a.double() - b.double()).norm()/b.double().norm()).item()


def softmax_attention(q, k, v): return (q @ k.mT/q.shape[-1]**.5).softmax(-1) @ v


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-5), (torch.bfloat16, .02)])
@pytest.mark.parametrize('road', ROADS)
@pytest.mark.parametrize('B, H, R, T, d', [(2, 3, 40, 56, 32), (1, 1, 5, 5, 8), (1, 2, 700, 800, 16)])
def test_every_road_is_attention(road, dtype, tolerance, B, H, R, T, d):
    g = torch.Generator().manual_seed(0)
    made = [torch.randn(B, n, H, d, generator=g).transpose(1, 2).to(dtype) for n in (R, T, T)]
    wanted = gradients(softmax_attention, [t.double() for t in made])
    with taking(road): found = gradients(attention, made)
    assert max(far(a, b) for a, b in zip(found, wanted)) < tolerance


def test_by_heads_is_differentiable_twice():
    g = torch.Generator().manual_seed(0)
    made = [torch.randn(1, 2, n, 3, dtype=torch.float64, generator=g) for n in (2, 4, 4)]
    def slope(road):
        def f(*leaves):
            first = torch.autograd.grad(road(*leaves).square().sum(), leaves, create_graph=True)
            return torch.cat([t.flatten() for t in first])
        return gradients(f, made)
    both = zip(slope(by_heads), slope(softmax_attention))
    for found, wanted in both: torch.testing.assert_close(found, wanted)


def test_the_rule_and_its_bound():
    q = torch.randn(1, 1, 4, 8)
    assert torch.equal(attention(q, q, q), F.scaled_dot_product_attention(q, q, q))
    half = q.bfloat16()
    assert torch.equal(attention(half, half, half), by_heads(half, half, half))
    side = int((KEPT//4)**.5) + 1                            # of probabilities too large to be kept
    large = torch.empty(1, 1, side, 8, device='meta')
    with pytest.raises(KeyError), taking('nowhere'): attention(q, q, q)
    with taking('nowhere'), pytest.MonkeyPatch.context() as patch:
        patch.setitem(ROADS, 'kernel', lambda q, k, v: 'kernel')
        assert attention(large, large, large) == 'kernel'


def stepped(way, learned=False):
    "The weights after one whole step of training."
    net = tiny.model(0., learned)
    before = [p.detach().clone() for p in net.parameters()]
    with going(way, CPU): loss = net.losses(net.encode(tiny.Batches()[0]), tiny.Batches()[0]).mean()
    loss.backward()
    torch.optim.SGD(net.parameters(), .1).step()
    return torch.cat([(p.detach() - b).flatten() for p, b in zip(net.parameters(), before)])


@pytest.mark.parametrize('learned', [False, True], ids=['transformer', 'gradient steps'])
@pytest.mark.parametrize('way', ways('auto', CPU), ids=lambda way: f'{way.precision} {way.attention}')
def test_a_training_step_is_the_same_either_way(way, learned):
    tolerance = 1e-4 if way.precision == 'fp32' else .1
    assert far(stepped(way, learned), stepped(Way('fp32', 'kernel'), learned)) < tolerance


@pytest.mark.parametrize('outputs', [3, 20])
@pytest.mark.parametrize('bias', ['shared', 'own'])
def test_shared_coordinates_meet_all_matrices_at_once(outputs, bias):
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)
    x, W, V = draw(9, 5), draw(4, 5, outputs), draw(outputs, 3)
    b, c = draw(outputs) if bias == 'shared' else draw(4, 1, outputs), draw(3)
    two = lambda x, W, b, V, c: linear(linear(x, W, b).relu(), V, c)
    plain = lambda x, W, b, V, c: (x @ W + b).relu() @ V + c
    for found, wanted in zip(gradients(two, (x, W, b, V, c)), gradients(plain, (x, W, b, V, c))):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize('precision, tolerance', [('fp32', 1e-5), ('bf16', .02)])
@pytest.mark.parametrize('live', [0, 1, 5])
def test_points_without_a_gradient_are_left_out(precision, tolerance, live):
    "`live` points of the second instance, none of the first; each layer of a kind of its own."
    g = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=g) for shape in
            [(2, 9, 6), (6, 32), (32,), (2, 32, 32), (2, 1, 32), (32, 32), (32,), (32, 4), (4,)]]
    weights = torch.zeros(2, 9, 4)
    weights[1, :live] = torch.randn(live, 4, generator=g)
    def slopes(layers):
        leaves = [t.clone().requires_grad_() for t in made]
        with going(Way(precision, 'kernel'), CPU):
            y = layers(leaves[0], list(zip(leaves[1::2], leaves[2::2])))
        return y, torch.autograd.grad((y*weights).sum(), leaves)
    (y, wanted), (same, found) = slopes(mlp), slopes(mlp_sparse_grad)
    assert torch.equal(y, same) and y.dtype == torch.float32
    for a, b in zip(found, wanted):
        assert a.dtype == b.dtype and (far(a, b) < tolerance if live else not a.any())


def go(out, net=None, precision='auto', **how):
    train(net or tiny.model(), tiny.config(steps=2, every=1), tiny.Batches(), out, device='cpu',
          precision=precision, bar=False, **how)
    state = json.loads((out/'state'/'state.json').read_text('utf-8'))
    return Way(*(state[name] for name in Way._fields))


def test_auto_tries_every_way_once_and_the_run_keeps_it(tmp_path, monkeypatch):
    tried = []
    def timed(step, device):
        tried.append(step())
        return {3: 1.}.get(len(tried), 2.)
    monkeypatch.setattr(trainer, 'seconds_of', timed)
    assert go(tmp_path/'run') == Way('bf16', 'kernel') and len(tried) == 4
    assert go(tmp_path/'run', resume=True) == Way('bf16', 'kernel') and len(tried) == 4
    assert go(tmp_path/'named', precision='fp32') == Way('fp32') and len(tried) == 4
    assert go(tmp_path/'learned', tiny.model(learned=True)).attention == 'kernel' and len(tried) == 6


def test_the_trial_leaves_no_trace(tmp_path, monkeypatch):
    "A run that timed its ways and a run that was told the winner draw and learn the same."
    monkeypatch.setattr(trainer, 'fastest', lambda found, timed: [timed(way) for way in found] and found[0])
    go(tmp_path/'timed')
    go(tmp_path/'told', precision='fp32')
    timed, told = (tiny.tensors(tmp_path/name) for name in ('timed', 'told'))
    assert all(torch.equal(timed[file][k], told[file][k]) for file in told for k in told[file])


def test_an_older_checkpoint_names_no_road():
    old = dict(precision='bf16', attention=None, compiled=False, device='cpu')
    assert choices(tiny.model(), old, 'auto', CPU) == [Way('bf16')]
    assert len(choices(tiny.model(), old | dict(precision='auto'), 'auto', CPU)) == 4
    with pytest.raises(ValueError, match='fp16'): choices(tiny.model(), {}, 'fp16', CPU)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='freed memory is kept on glibc only')
@pytest.mark.parametrize('words', [['train', 'nowhere'], ['fit', 'nowhere.png']], ids=lambda words: words[0])
def test_training_keeps_its_memory(words):
    "A returned page is new when asked for again: 16,384 of 4 KB for each 64 MB. After the command, none."
    script = f'''import resource, torch
from instcomp.cli import main
assert main({words}) == 2
pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): torch.ones(2**24)
before = pages()
for _ in range(5): torch.ones(2**24)
print(pages() - before)'''
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) < 1000, done.stdout + done.stderr
