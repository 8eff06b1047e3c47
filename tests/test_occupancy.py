"Degenerate solids get one clear line; the surface that is followed is the surface of the full grid."
import numpy as np
import pytest
import torch
import trimesh

from instcomp.geometry.mesh import (
    checked_mesh,
    extract_mesh,
    grid_corners,
    labelled_points,
    mise,
    surface_scores,
    winding_number,
)
from instcomp.geometry.mesh_files import read_mesh, write_mesh
from instcomp.geometry.sdf import Solid, box, place_solid
from instcomp.geometry.shapes import FAMILIES, solid
from instcomp.models.occupancy import cloud_model, voxelise


def refused(f, *words):
    with pytest.raises(ValueError) as caught: f()
    text = str(caught.value)
    assert '\n' not in text and all(word in text for word in words), text


def ball(): return trimesh.creation.icosphere(2, .5)


def test_a_mesh_with_a_hole_has_no_inside(tmp_path):
    holed = trimesh.Trimesh(ball().vertices, ball().faces[1:], process=False)
    refused(lambda: checked_mesh(holed), 'watertight', 'holes')
    refused(lambda: winding_number(holed, torch.zeros(1, 3)), 'watertight')
    holed.export(tmp_path/'holed.ply')
    refused(lambda: read_mesh(tmp_path/'holed.ply'), 'watertight')


def test_an_empty_mesh_is_refused(tmp_path):
    refused(lambda: checked_mesh(trimesh.Trimesh()), 'empty')
    refused(lambda: write_mesh(trimesh.Trimesh(), tmp_path/'nothing.ply'), 'empty')
    assert list(tmp_path.iterdir()) == []
    refused(lambda: extract_mesh(torch.full([9]*3, -1.)), 'no surface')
    far = place_solid(box((.1, .1, .1)), (5., 0, 0))
    refused(lambda: Solid([(far, (0, 0, 0))]).surface(10), 'no surface')


def test_one_point_of_a_surface_is_found():
    "A single one is drawn from many tries: none of them fails for want of luck."
    one = Solid([(box((.3, .3, .3)), (1., 0, 0))])
    assert all(len(one.surface(1, torch.Generator().manual_seed(k))[0]) == 1 for k in range(9))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.ply'): read_mesh(tmp_path/'nowhere.ply')
    refused(lambda: write_mesh(ball(), tmp_path/'ball.txt'), '.ply', '.glb')


@pytest.mark.parametrize('cloud', [torch.zeros(1, 0, 3), torch.zeros(5, 3), torch.full((1, 4, 3), torch.nan),
                                   torch.full((1, 4, 3), 2.)])
def test_a_cloud_that_is_none_is_refused(cloud):
    refused(lambda: voxelise(cloud, 8), 'point cloud')
    refused(lambda: cloud_model(8, 4).encode((cloud, None, None)), 'point cloud')


def test_no_points_no_score():
    none, some = torch.zeros(0, 3), torch.rand(5, 3)
    refused(lambda: surface_scores(none, none, some, some), 'no points')
    refused(lambda: labelled_points(lambda x: x[:, 0] > 0, none, 10), 'empty')


@pytest.mark.parametrize('ending', ['ply', 'obj', 'glb'])
def test_files_keep_the_mesh(tmp_path, ending):
    back = read_mesh(write_mesh(ball(), tmp_path/f'ball.{ending}'))
    assert abs(back.volume/ball().volume - 1) < 1e-4 and len(back.faces) == len(ball().faces)
    assert [path.name for path in tmp_path.iterdir()] == [f'ball.{ending}']


@pytest.mark.parametrize('family', FAMILIES)
def test_following_the_surface_misses_nothing_of_a_distance(family):
    def inner(x): return -solid(family, 11).distance(x)
    V, count = mise(inner, 16, 2, margin=3**.5/16)           # no point of a cell is farther from a corner
    dense, few = extract_mesh(inner(grid_corners(64))), extract_mesh(V)
    assert np.array_equal(dense.faces, few.faces) and np.allclose(dense.vertices, few.vertices, atol=1e-6)
    assert count < .3*V.numel() and few.is_watertight and few.volume > 0


def test_a_thin_bar_between_the_corners_is_followed():
    bar = box((.9, .02, .02))
    block = place_solid(box((.3, .3, .3)), (0, .03, .03))
    def inner(x): return -bar(x - x.new_tensor([0, .03, .03])).minimum(block(x))
    V, _ = mise(inner, 16, 2)
    assert np.array_equal(extract_mesh(inner(grid_corners(64))).faces, extract_mesh(V).faces)


def test_inside_of_a_mesh():
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))*2 - 1
    turns, far = winding_number(ball(), x), x.norm(dim=-1)
    sure = (far < .48) | (far > .5)
    assert torch.equal(turns[sure] > .5, far[sure] < .5)


def test_codes_forget_the_order_of_the_points():
    torch.manual_seed(0)
    model, cloud = cloud_model(8, 4), torch.rand(2, 50, 3)*2 - 1
    x = torch.rand(6, 3)
    a, b = (model.decode(model.encode((c, None, None)), x) for c in (cloud, cloud[:, torch.randperm(50)]))
    assert a.shape == (2, 6, 1) and torch.allclose(a, b, atol=1e-4)
