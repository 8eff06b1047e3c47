"Views from disk as people have them, the command on them, and what a large view needs."
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from instcomp.cli import main
from instcomp.data.scenes import LearnitScenes, Scene, SceneSource, read_scene
from instcomp.data.synthetic_views import object_views, on_white, write_views
from instcomp.experiments.builder import build
from instcomp.geometry.camera import Lens, pinhole, pixels, rays
from instcomp.geometry.rendering import render
from instcomp.tasks.views import disagreement, score_scene, source

SMALL = ['encoder.dim=16', 'encoder.heads=2', 'encoder.ff=16', 'task.points=8', 'task.rays=16',
         'train.batch=2']
TINY = [word for change in SMALL for word in ('--set', change)]


@pytest.fixture
def folder(tmp_path):
    "One object, four pictures of 32 x 32."
    return write_views(tmp_path, 'car', 1, 0, 0, views=4, size=32).parent/'cars'/'00000'


def changed(folder, change):
    "The same scene with another transforms.json."
    meta = json.loads((folder/'transforms.json').read_text())
    change(meta)
    (folder/'transforms.json').write_text(json.dumps(meta))
    return folder


FLAT = [[1., 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
EYE = torch.eye(4).tolist()
TURNED = torch.tensor([[1., 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]).tolist()    # transposed


def lens(**said): return lambda m: m.update(said)


def frame(**said): return lambda m: m['frames'][1].update(said)


def each(key, *values): return lambda m: [f.update({key: v}) for f, v in zip(m['frames'], values)]


REFUSED = {
    'no focal length': lambda m: m.pop('camera_angle_x'),
    'camera_angle_x is 0': lens(camera_angle_x=0),
    'camera_angle_x is 3.2': lens(camera_angle_x=3.2),
    'camera_angle_x is null': lens(camera_angle_x=None),
    'fl_x is -30': lens(fl_x=-30.),
    'fl_y is 0': lens(fl_x=30., fl_y=0),
    'Infinity is no number': lens(fl_x=float('inf')),
    'JSON .NaN is no number': lens(fl_x=float('nan')),
    "fl_x is '30'": lens(fl_x='30'),
    'fl_x is true': lens(fl_x=True),
    'cx is 1e\\+30': lens(cx=1e30),
    'k1 is \\[1\\]': lens(k1=[1]),
    'p2 is -1e\\+20': lens(p2=-1e20),
    'k2 is null': lens(k2=None),
    'w is 0': lens(w=0, h=0),
    'w, h say 64 x 32, the pictures are 32 x 32': lens(w=64, h=32),
    'a fisheye lens': lens(camera_model='OPENCV_FISHEYE'),
    'undistort the pictures': lens(is_fisheye=True),
    'beyond k1 k2 k3 p1 p2': lens(k4=.01),
    'distortion beyond': lens(k6=.01),
    'k4 is distortion': each('k4', *[.01]*4),
    'a lens for each frame, or one': lambda m: m.update(fl_x=60.) or m['frames'][2].update(fl_x=50.),
    'or one for all': each('camera_angle_x', .3, .3, .3, .3),
    'singular': frame(transform_matrix=FLAT),
    'no 4 x 4 matrix': frame(transform_matrix=[[1., 2.]]),
    'r_1: the pose': frame(transform_matrix=[[1e30]*4]*4),
    'r_1: the pose is no': frame(transform_matrix=EYE[:3] + [[0., 0, 1]]),
    'the pose is no 4 x 4': frame(transform_matrix=[['1']*4]*4),
    'is no 4 x 4': frame(transform_matrix=[[10**400]*4]*4),
    'r_1: the pose is no 4': frame(transform_matrix=None),
    'ends in 0 0 0 1': frame(transform_matrix=TURNED),
    'frame 1 names no picture': lambda m: m['frames'].__setitem__(1, './r_1'),
    'frame 2 names no picture': lambda m: m['frames'][2].pop('file_path'),
    'give its file_path': frame(file_path=3),
    'no list of frames': lambda m: m.update(frames=[]),
    'none of its 4 frames': lambda m: [f.update(file_path=f'gone{k}') for k, f in enumerate(m['frames'])],
}


@pytest.mark.parametrize('say', REFUSED)
def test_refused_in_one_line(folder, say):
    with pytest.raises(ValueError, match=say) as error: read_scene(changed(folder, REFUSED[say]))
    assert '\n' not in str(error.value) and 'transforms.json' in str(error.value)


def test_a_lens_said_alike_in_each_frame(folder):
    scene = read_scene(changed(folder, each('fl_x', *[50.]*4)))
    assert scene.lens[:2] == (50., read_scene(folder, frames=slice(2)).lens.fy)
    alike = {'k3': 0, 'is_fisheye': False, 'camera_model': 'OPENCV', 'fl_y': 50, 'w': 64}
    assert read_scene(changed(folder, lens(**alike))).lens == Lens(25., 25., 16., 16.)


@pytest.mark.parametrize('kind', ['I;16', 'F'])
def test_sixteen_bits_are_left_out(folder, kind):
    deep = np.full((32, 32), 300, np.uint16 if kind == 'I;16' else np.float32)
    Image.fromarray(deep).save(folder/('r_1.png' if kind == 'I;16' else 'deep.tif'))
    if kind == 'F': changed(folder, frame(file_path='deep.tif'))
    said, = read_scene(folder).skipped
    assert '8 bits a colour: save it with 8' in said


def test_depth_goes_to_its_picture(folder):
    before = read_scene(folder)
    changed(folder, lambda m: m['frames'].reverse())
    assert torch.equal(read_scene(folder).depth, before.depth.flip(0))
    assert torch.equal(read_scene(folder, frames=slice(1, 3)).depth, before.depth[[2, 1]])
    (folder/'r_2.png').unlink()
    assert torch.equal(read_scene(folder).depth, before.depth[[3, 1, 0]])
    (folder/'r_1.png').rename(folder/'other.png')
    changed(folder, lambda m: m['frames'][2].update(file_path='other.png'))
    with pytest.raises(ValueError, match='transforms.json: depth.safetensors'): read_scene(folder)


DEPTHS = dict(few=dict(depth=torch.ones(3, 32, 32)), small=dict(depth=torch.ones(4, 16, 16)),
              one=dict(depth=torch.tensor(1.)), other=dict(distance=torch.ones(4, 32, 32)))


@pytest.mark.parametrize('kind', ['broken', *DEPTHS])
def test_a_wrong_depth_is_refused(folder, kind):
    (folder/'depth.safetensors').write_bytes(save(DEPTHS[kind]) if kind in DEPTHS else b'broken')
    with pytest.raises(ValueError, match='transforms.json: depth.safetensors.*remove it'): read_scene(folder)


def test_missing_frames_are_skipped_by_name(tmp_path, capsys):
    folder = write_views(tmp_path, 'car', 1, 0, 0, views=8, size=32).parent/'cars'/'00000'
    (folder/'r_2.png').unlink()
    scene = read_scene(folder)
    assert scene.skipped == ('./r_2',) and len(scene.images) == len(scene.poses) == 7
    out = str(tmp_path/'run')
    assert main(['train', 'nvs-ipc-tiny-cars', '--data', str(folder), '--out', out, '--steps', '1', '--set',
                 'task.support=[1, 1]', *TINY]) == 0
    assert './r_2' in capsys.readouterr().err


def test_mixed_sizes(folder):
    Image.new('RGBA', (20, 30)).save(folder/'r_1.png')
    with pytest.raises(ValueError, match='several sizes.*30 x 20'): read_scene(folder)


@pytest.mark.parametrize('content', [b'', b'no picture', b'\x89PNG\r\n\x1a\n'])
def test_a_damaged_picture_is_left_out_by_name(folder, content):
    (folder/'r_1.png').write_bytes(content)
    scene = read_scene(folder)
    assert len(scene.images) == len(scene.poses) == len(scene.depth) == 3
    assert len(scene.skipped) == 1 and scene.skipped[0].startswith('./r_1: no picture')
    for k in range(4): (folder/f'r_{k}.png').write_bytes(content)
    with pytest.raises(ValueError, match='none of its 4 .*r_0: no picture'): read_scene(folder)


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(FileNotFoundError, match='transforms.json'): read_scene(tmp_path)
    (tmp_path/'transforms.json').write_text('{')
    with pytest.raises(ValueError, match='not JSON'): read_scene(tmp_path)


def test_without_alpha_everything_is_opaque(folder):
    before = read_scene(folder).images
    for file in folder.glob('*.png'):
        picture = Image.open(file)
        white = Image.new('RGBA', picture.size, 'white')
        Image.alpha_composite(white, picture).convert('RGB').save(file)
    assert (read_scene(folder).images - before).abs().max() < .02


def test_pixels_that_are_not_square_and_a_bent_lens(folder):
    lens = dict(fl_x=60., fl_y=50., cx=15., cy=17., k1=.05, k2=-.01, p1=.002, p2=.001)
    scene = read_scene(changed(folder, lambda m: m.update(lens)))
    assert scene.lens == Lens(*lens.values())
    o, d = rays(scene.poses, scene.lens, pixels(32, 32))
    assert d.isfinite().all() and d.shape == (4, 32, 32, 3)


def test_a_picture_resized_on_disk_keeps_its_angle(folder):
    lens = read_scene(changed(folder, lambda m: m.update(w=64, h=64, fl_x=120., fl_y=120.))).lens
    assert lens.fx == lens.fy == 60 and lens.cx == 16


def test_an_empty_view_survives():
    true = object_views('lamp', 0, 3, 16)
    scene = Scene(torch.ones(3, 3, 16, 16), true['poses'], pinhole(16, 16, .54))
    batch = SceneSource([scene], rays=8).batch(1, 16, np.random.default_rng(0), [0])
    assert (batch['colour'] == 1).all()


def test_splits_of_the_learnit_layout(tmp_path):
    write_views(tmp_path, 'lamp', 1, 0, 1, views=2, size=16)
    assert len(LearnitScenes(tmp_path, 'lamp', 'test')) == 1
    with pytest.raises(ValueError, match='none of the 0'): LearnitScenes(tmp_path, 'lamp', 'val')
    with pytest.raises(FileNotFoundError, match='car_splits.json'): LearnitScenes(tmp_path, 'car')


def test_a_bent_lens_trains_and_scores_on_views_it_never_saw(tmp_path, capsys):
    folder = write_views(tmp_path, 'car', 1, 0, 0, views=8, size=32).parent/'cars'/'00000'
    changed(folder, lambda m: m.update(k1=.05, p1=.002))
    row = dict(size=32, task={})
    assert [len(source(folder, split, row).scenes[0].images) for split in ('train', 'test')] == [4, 8]

    def score(steps):
        run = tmp_path/f'run{steps}'
        words = ['--set', 'task.support=[1, 2]', '--set', 'train.warmup=1', *TINY]
        assert main(['train', 'nvs-transinr-tiny-cars', '--data', str(folder), '--out', str(run),
                     '--steps', str(steps), *words]) == 0
        assert main(['eval', str(run), '--data', str(folder), '--json']) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    first, last = score(1), score(80)
    assert last['psnr'] > first['psnr'] + 1 and last['n'] == 1 and 'held-out views' in last['protocol']


def test_cameras_whose_rays_end_before_the_scene_are_named(folder, capsys):
    source(folder, 'test', dict(size=32, task=dict(near=2.9, far=5.1)))
    assert capsys.readouterr().err == ''
    def away(meta):
        for frame in meta['frames']:
            for k in range(3): frame['transform_matrix'][k][3] *= 3
    source(changed(folder, away), 'test', dict(size=32, task=dict(near=2.9, far=5.1)))
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'cameras are 12 to 12' in err and 'task.near' in err


LARGE = '''
import torch
from pathlib import Path
from instcomp.experiments.builder import build
from instcomp.geometry.camera import orbit_pose, pinhole, pixels, rays
from instcomp.models.radiance import render_views
model = build('nvs-ipc-tiny-cars').eval()
V = torch.randn(1, *model.modulator.code_shape)
lens, pose = pinhole(1024, 1024, .54), orbit_pose(30, 20)
with torch.no_grad(): out = render_views(model, V, pose, lens, (1024, 1024), n=2)
assert out['rgb'].shape == (1024, 1024, 3) and out['rgb'].isfinite().all()
print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])/2**20)
'''


def test_lenses_of_their_own_and_an_unknown_choice():
    "A lens for each picture, all alike, is one lens for all; a misspelt choice draws nothing at random."
    made, model = object_views('car', 6, 4, 32, .54), build('nvs-ipc-tiny-cars', 'cpu').eval()
    scene = Scene(on_white(made['pictures']), made['poses'], pinhole(32, 32, .54))
    own = scene._replace(lens=[scene.lens]*4)
    one, each = (disagreement(model, views, [0, 1], made['poses'][2]) for views in (scene, own))
    assert one.shape == (32, 32) and torch.equal(one, each)
    with pytest.raises(ValueError, match="how='heldout'"): score_scene(model, scene, how='heldout')


@pytest.mark.skipif(sys.platform != 'linux', reason='the file that counts memory is only there')
def test_a_large_view_in_two_gigabytes():
    "By the kernel's count for this program; getrusage's begins with the size of the process that started it."
    run = subprocess.run([sys.executable, '-c', LARGE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 2


def test_the_chunk_does_not_matter():
    def field(x, d): return torch.cat([x.sigmoid(), x.norm(dim=-1, keepdim=True)], -1)
    o, d = torch.zeros(7, 3), torch.nn.functional.normalize(torch.randn(7, 3), dim=-1)
    whole = render(field, o, d, 1., 2., 9, 5)
    for chunk in (1, 3, 100):
        part = render(field, o, d, 1., 2., 9, 5, chunk=chunk)
        assert all(torch.allclose(whole[k], part[k], atol=1e-6) for k in whole)
