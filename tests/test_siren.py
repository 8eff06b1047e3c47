"Input that has nothing in it gets a defined result or a clear error."
import pytest
import torch
import torch.nn.functional as F

from instcomp.fields.coords import grid
from instcomp.fields.siren import (
    align,
    divergence,
    eikonal,
    gradient,
    jacobian,
    laplacian,
    normalise,
    normalised_cloud,
    sdf_loss,
    siren,
)
from instcomp.training.loop import fit


def fitted(y, shape, steps=60):                      # values after a short fit, in the signal's own units
    torch.manual_seed(0)
    z, undo = normalise(y)
    net, x = siren(len(shape), 16, 3, y.shape[-1]), grid(shape)
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in fit(lambda i: (net(x) - z).square().mean(), opt, steps): pass
    with torch.no_grad(): return undo(net(x))


def test_constant_image():
    y = torch.full((8, 8, 3), .3)
    z, undo = normalise(y)
    assert not z.any() and torch.equal(undo(z), y)
    assert (fitted(y, (8, 8)) - y).abs().max() < .2


def test_silent_sound():
    y = torch.zeros(100, 1)
    z, undo = normalise(y)
    assert not z.any() and not undo(z).any()
    assert fitted(y, (100,)).isfinite().all()


def test_sound_of_one_sample():
    y = torch.tensor([[.7]])
    assert (fitted(y, (1,)) - y).abs().max() < .05


@pytest.mark.parametrize('y', [torch.zeros(0, 1), torch.tensor([[float('nan')]]), torch.tensor([[1e39]])])
def test_no_signal(y):
    with pytest.raises(ValueError, match='at least one value, all of them finite'): normalise(y)


def test_cloud_without_normals():
    with pytest.raises(ValueError, match='without normals'): normalised_cloud(torch.rand(9, 3), None)


@pytest.mark.parametrize('points, normals, why', [
    (torch.rand(9, 3), torch.rand(8, 3), 'give twice'), (torch.rand(1, 3), torch.rand(1, 3), 'N > 1'),
    (torch.rand(9, 3), torch.zeros(9, 3), 'have a length'), (torch.ones(9, 3), torch.rand(9, 3), 'the same'),
    (torch.full((9, 3), torch.nan), torch.rand(9, 3), 'finite')])
def test_bad_clouds(points, normals, why):
    with pytest.raises(ValueError, match=why): normalised_cloud(points, normals)


def test_cloud_returns_to_its_place():
    points = torch.rand(50, 3)*torch.tensor([1., 5., 2.]) + 7
    p, n, undo = normalised_cloud(points, torch.randn(50, 3))
    torch.testing.assert_close(undo(p), points)
    assert abs(p.abs().max() - .9) < 1e-5 and torch.allclose(n.norm(dim=1), torch.ones(50))


def test_alignment_of_a_constant():
    target = torch.rand(2, 5, 5)
    torch.testing.assert_close(align(torch.ones(2, 5, 5), target), target.mean((1, 2), True).expand(2, 5, 5))
    torch.testing.assert_close(align(-3*target + 1, target), target)


@pytest.mark.parametrize('f', [lambda x: torch.ones(len(x), 2), lambda x: x @ torch.ones(2, 2)])
def test_flat_fields_have_no_curvature(f):
    x = torch.rand(6, 2)
    assert not laplacian(f, x).any() and jacobian(f, x).shape == (6, 2, 2)


def test_operators_name_what_they_need():
    net, x = siren(2, 8, 3, 3), torch.rand(4, 2)
    with pytest.raises(ValueError, match='take its jacobian'): gradient(net, x)
    with pytest.raises(ValueError, match='needs as many'): divergence(net, x)
    with pytest.raises(ValueError, match='at least 2 layers'): siren(depth=1)


def test_no_grad_is_respected():
    net, x = siren(2, 8, 3, 1), torch.rand(4, 2)
    with torch.no_grad(): assert not gradient(net, x).requires_grad and not laplacian(net, x).requires_grad
    laplacian(net, x).square().mean().backward()
    assert net.W[0].grad.abs().max() > 0


def test_sphere_is_a_distance():
    n = F.normalize(torch.randn(200, 3), dim=1)
    field = lambda x: x.norm(dim=-1, keepdim=True) - .5
    assert eikonal(gradient(field, n)) < 1e-5
    assert sdf_loss(field, n/2, n, n*.9) < .01 < sdf_loss(field, n/2, -n, n*.9)


@pytest.mark.parametrize('field', [lambda x: x.square().sum(-1), lambda x: x.expand(3, -1, -1)],
                         ids=['no axis of values', 'three instances at once'])
@pytest.mark.parametrize('operator', [gradient, jacobian, divergence, laplacian])
def test_a_field_of_another_shape_is_refused(operator, field):
    with pytest.raises(ValueError, match='give \\(N, c\\) at \\(N, d\\)'): operator(field, torch.rand(5, 2))


@pytest.mark.parametrize('kind', [torch.int16, torch.uint8])
def test_whole_numbers_are_normalised_without_overflow(kind):
    y = torch.tensor([0, 60, 255] if kind == torch.uint8 else [-20_000, 0, 20_000], dtype=kind)
    z, undo = normalise(y)
    assert z.min() == -1 and z.max() == 1 and torch.equal(undo(z).round(), y.float())
