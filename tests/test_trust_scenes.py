"Scenes of other people: axes, lenses, names, layouts and masks of other tools; claims of a file; bad frames."
import json
import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from instcomp.cli import main
from instcomp.data import scenes
from instcomp.data.scenes import FolderScenes, LearnitScenes, open_scene, read_scene, scene_places
from instcomp.data.synthetic_views import object_views
from instcomp.geometry.camera import Lens, check_axes, facing, look_at, orbit_pose, pixels, project, rays
from instcomp.limits import set_limits
from instcomp.tasks.registry import weights_for
from instcomp.tasks.views import ViewsTask, held_out, score_scene, source

ROW = dict(size=16, task=dict(near=2.9, far=5.1, rays=8))
FLIP = torch.tensor([1., -1, -1, 1])
ORBIT = torch.stack([orbit_pose(45*k, 15 + 10*(k % 3)) for k in range(8)])


@pytest.fixture(scope='module')
def car():
    "Eight views of a car as bytes of RGBA, and their poses."
    made = object_views('car', 10_000, 8, 32)
    p = made['pictures'].float()
    p[:, :3] = p[:, :3]*255/p[:, 3:].clamp(min=1)
    return p.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy(), made['poses']


def listed(poses, name='r_{}'):
    return [dict(file_path=name.format(k), transform_matrix=m.tolist()) for k, m in enumerate(poses)]


def scene(folder, poses=ORBIT, mode='RGBA', size=(16, 16), ending='.png', first=0, **said):
    "A scene of noise in a folder; `said` is added to its transforms.json."
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(poses)):
        rng = np.random.default_rng(first + k)
        Image.fromarray(rng.integers(0, 256, (*size, 4), np.uint8), 'RGBA').convert(mode).save(
            folder/f'r_{first + k}{ending}')
    meta = dict(camera_angle_x=.54, frames=listed(poses)) | said
    (folder/'transforms.json').write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))
    return folder


def rewrite(folder, change, name='transforms.json'):
    meta = json.loads((folder/name).read_text())
    change(meta)
    (folder/name).write_text(json.dumps(meta))
    return folder


def line(call, *args):
    "The one line of a refusal."
    with pytest.raises((ValueError, OSError)) as error: call(*args)
    assert '\n' not in str(error.value)
    return str(error.value)


# ---- axes
def handheld(moved=(0., 0, 0), wobble=.1):
    "An orbit as people take it: aimed badly, about a point that is not the origin."
    rng, target, eyes = torch.Generator().manual_seed(0), torch.tensor(moved), ORBIT[:, :3, 3]
    draw = lambda: (torch.rand(3, generator=rng) - .5)*wobble*8
    return torch.stack([look_at(eye + target + draw(), target + draw()) for eye in eyes])


SHEAR = torch.eye(4)
SHEAR[0, 1] = .3
WRONG = dict(opencv=(lambda p: p*FLIP, 'OpenCV axes'),
             inverted=(torch.linalg.inv, 'world to camera: invert them$'),
             colmap=(lambda p: torch.linalg.inv(p*FLIP), 'invert them; then negate'),
             mirrored=(lambda p: p*torch.tensor([1., 1, -1, 1]), 'mirrored'),
             transposed=(lambda p: p.mT, 'ends in 0 0 0 1'),
             sheared=(lambda p: p @ SHEAR, 'no rotation'))


@pytest.mark.parametrize('cut_out', [True, False])
@pytest.mark.parametrize('orbit', [ORBIT, handheld(), handheld((5., -3, 1)), ORBIT[:3]])
@pytest.mark.parametrize('kind', WRONG)
def test_poses_of_other_axes_are_refused(kind, orbit, cut_out, tmp_path):
    change, says = WRONG[kind]
    folder = scene(tmp_path/'s', orbit, 'RGBA' if cut_out else 'RGB')
    assert not any('look' in note or 'heads' in note for note in read_scene(folder).notes)
    scene(folder, change(orbit), 'RGBA' if cut_out else 'RGB')
    with pytest.raises(ValueError, match=f's/transforms.json: .*{says}'): read_scene(folder)


def outwards(n=8, tilt=0.):
    ring = torch.arange(n)*2*torch.pi/n
    out = torch.stack([ring.cos(), ring.sin(), torch.full_like(ring, tilt)], 1)
    return torch.stack([look_at(v, 2*v) for v in out])


def placed(places, targets): return torch.stack([look_at(a, b) for a, b in zip(places, targets)])


GRID = torch.cartesian_prod(torch.zeros(1), torch.linspace(-.5, .5, 4), torch.linspace(-.3, .3, 3))
AHEAD = torch.tensor([4., 0, 0])
DRAWN = torch.rand(20, 3, generator=torch.Generator().manual_seed(1))
PANORAMA = outwards().clone()
PANORAMA[:, :3, 3] = torch.tensor([0., 0, 1.6])
LAYOUTS = dict(parallel=placed(GRID, GRID + AHEAD), converging=placed(GRID, AHEAD + 0*GRID),
               fan=placed(GRID, AHEAD + 3*GRID), panorama=PANORAMA, room=outwards(), raised=outwards(tilt=.4),
               walk=placed(4*DRAWN, 4*DRAWN.roll(7, 0)), pair=ORBIT[:2], one=ORBIT[:1],
               arc=torch.stack([orbit_pose(5*k, 20) for k in range(8)]), still=ORBIT[:1].repeat(5, 1, 1))


@pytest.mark.parametrize('kind', LAYOUTS)
def test_cameras_that_need_not_look_at_one_thing(kind, tmp_path):
    "Read, at most with a word."
    read = read_scene(scene(tmp_path, LAYOUTS[kind], 'RGB'))
    assert len(read.images) == len(LAYOUTS[kind])
    looks = [note for note in read.notes if 'look' in note or 'heads' in note]
    assert looks if kind in ('room', 'raised', 'fan') else not looks


def test_where_axes_meet():
    assert facing(ORBIT) == 1 and facing(ORBIT*FLIP) == 0 and facing(outwards()) == 0
    assert facing(torch.linalg.inv(ORBIT)) is None                       # all in one place
    mixed = torch.cat([ORBIT[:6], ORBIT[6:]*FLIP])
    assert facing(mixed) == .75 and '25% of the cameras look away' in check_axes(mixed)
    turned = ORBIT*torch.tensor([-1., -1, 1, 1])
    assert 'heads' in check_axes(turned)


def test_a_scale_in_the_matrix_is_taken_out_and_said(tmp_path):
    large = ORBIT.clone()
    large[:, :3, :3] *= 2.5
    read = read_scene(scene(tmp_path, large))
    assert torch.allclose(read.poses, ORBIT, atol=1e-5) and 'a scale of 2.5' in read.notes[0]


def test_the_command_on_axes(car, tmp_path, capsys):
    "The right one is scored as the model alone does; the others end in one line, and write nothing."
    from instcomp.experiments.builder import load
    shots, poses = car
    for name, matrices in dict(good=poses, opencv=poses*FLIP).items():
        scene(tmp_path/name, matrices, size=(32, 32))
        for k, picture in enumerate(shots): Image.fromarray(picture).save(tmp_path/name/f'r_{k}.png')
    assert main(['eval', 'cars-ipc', '--data', str(tmp_path/'good'), '--json']) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    model = load('cars-ipc', 'cpu')
    assert said.err == '' and result['interval'] is None and result['psnr'] > result['psnr_white'] + 5
    true = score_scene(model, read_scene(tmp_path/'good', 32))['psnr'].mean()
    assert abs(result['psnr'] - true) < .01
    assert main(['eval', 'cars-ipc', '--data', str(tmp_path/'opencv'), '--out', str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'opencv/transforms.json' in err
    assert not (tmp_path/'eval.json').exists()


# ---- files of other systems
NAMES = dict(backslash='images\\r_{}.png', bare='./images/r_{}', capitals='images/R_{}.PNG', here='r_{}.png',
             elsewhere='D:\\work\\car\\images\\r_{}.png', absolute='/home/of/another/images/r_{}.png')


@pytest.mark.parametrize('ending', ['.png', '.PNG'])
@pytest.mark.parametrize('kind', NAMES)
def test_names_of_other_systems(kind, ending, tmp_path):
    true = read_scene(scene(tmp_path/'true')).images
    folder = scene(tmp_path/'s'/'images', ending=ending)
    if kind != 'here':
        os.replace(folder/'transforms.json', folder.parent/'transforms.json')
        folder = folder.parent
    rewrite(folder, lambda m: m.update(frames=listed(ORBIT, NAMES[kind])))
    read = read_scene(folder)
    assert torch.equal(read.images, true) and read.skipped == ()


def test_a_name_means_itself_first(tmp_path):
    names = ['a\\r_0.png', 'r_1', 'R_2.png'] + [f'r_{k}' for k in range(3, 8)]
    frames = [dict(file_path=name, transform_matrix=m.tolist()) for name, m in zip(names, ORBIT)]
    scene(tmp_path, frames=frames)
    for name in names[:3]: Image.new('RGB', (16, 16)).save(tmp_path/name, 'PNG')
    black = read_scene(tmp_path).images.flatten(1).amax(1) == 0
    assert black.tolist() == [True]*3 + [False]*5


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-be', 'utf-32'])
def test_encodings(encoding, tmp_path):
    file = scene(tmp_path)/'transforms.json'
    file.write_bytes(file.read_text().encode(encoding))
    assert len(read_scene(tmp_path).images) == 8


def test_other_encodings_end_in_a_line(tmp_path):
    file = scene(tmp_path)/'transforms.json'
    file.write_bytes(file.read_text().replace('r_0', 'ü').encode('latin-1'))
    assert 'transforms.json: not JSON' in line(read_scene, tmp_path)


# ---- as tools write them
def nerfstudio(frames):
    for f in frames: f['depth_file_path'] = f['file_path'].replace('r_', 'depths/')
    return dict(w=32, h=32, fl_x=57.8, fl_y=57.8, cx=16., cy=16., k1=.01, k2=-.002, k3=0, k4=0, p1=.001, p2=0,
                camera_model='OPENCV', applied_transform=[[1., 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]],
                applied_scale=.5, ply_file_path='sparse_pc.ply', orientation_override='none', frames=frames)


def ngp(frames):
    for f in frames: f |= dict(sharpness=31.5)
    return dict(camera_angle_x=.5406, camera_angle_y=.5406, fl_x=57.7, fl_y=57.7, cx=16., cy=16., w=32.,
                h=32., k1=0, k2=0, k3=0, k4=0, p1=0, p2=0, is_fisheye=False, aabb_scale=16, scale=.33,
                offset=[.5, .5, .5], rolling_shutter=[0, 0, 0], frames=frames)


def blender(frames):
    for f in frames: f |= dict(rotation=.0126)
    return dict(camera_angle_x=.54, frames=frames)


def each(frames):
    for k, f in enumerate(frames): f |= dict(w=32, h=32, fl_x=57. + k, fl_y=57., cx=16., cy=16., k1=.001*k)
    return dict(camera_model='OPENCV', aabb_scale=1, frames=frames)


def short(frames):
    for f in frames: f['transform_matrix'] = f['transform_matrix'][:3]
    return blender(frames)


@pytest.mark.parametrize('tool', [nerfstudio, ngp, blender, each, short])
def test_as_tools_write_them(tool, tmp_path):
    "Nothing odd; training and score work."
    folder = scene(tmp_path)
    rewrite(folder, lambda m: (m.clear(), m.update(tool(listed(ORBIT)))))
    read = read_scene(folder)
    assert read.notes == read.skipped == () and torch.allclose(read.poses, ORBIT, atol=1e-6)
    lenses = read.lens if tool is each else [read.lens]
    assert all(abs(2*torch.atan(torch.tensor(8/lens.fx)) - .54) < .07 for lens in lenses)
    assert source(folder, 'train', ROW).batch(1, 16, np.random.default_rng(0), [0])['origin'].isfinite().all()
    assert held_out(folder, ROW, 5, 0)[0].context is None


def test_each_picture_with_its_own_lens(tmp_path):
    "Points that are known are hit by the rays of their pixels, in every picture; resized and cut as well."
    frames = listed(ORBIT)
    for k, f in enumerate(frames): f |= dict(fl_x=50. + 5*k, fl_y=48. + 3*k, cx=22. + k/4, cy=15.)
    folder = scene(tmp_path, size=(32, 48), camera_angle_x=None, frames=frames, w=48, h=32, k1=.03)
    opened = open_scene(folder, 'all', 16)
    assert len(opened.lens) == 8 and opened.lens[2].fx == 30 and opened.lens[2].cx == 22.5/2 - 4
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - .5
    for k in (0, 5):
        at, depth = project(points, opened.poses[k], opened.lens[k])
        o, d = rays(opened.poses[k:k + 1], opened.lens_of([k]), at)
        assert torch.allclose(o[0] + depth[:, None]*d[0], points, atol=1e-4)
    o, d = rays(opened.poses, opened.lens, pixels(16, 16))
    assert d.shape == (8, 16, 16, 3)
    assert torch.equal(d[3], rays(opened.poses[3], opened.lens[3], pixels(16, 16))[1])
    task = ViewsTask(ROW)
    assert abs(task.describe(task.read(folder))['angle'] - 2*np.arctan(8/25)) < 1e-6


def test_a_lens_as_opencv_bends_it():
    "Pixels by OpenCV's formula, in numpy, of points that are known; rays must find them."
    k1, k2, p1, p2, k3 = -.21, .08, .003, -.002, .01
    x, y = np.meshgrid(np.linspace(-.6, .6, 9), np.linspace(-.4, .4, 7))
    r = x**2 + y**2
    bent = 1 + k1*r + k2*r**2 + k3*r**3
    u = x*bent + 2*p1*x*y + p2*(r + 2*x**2)
    v = y*bent + p1*(r + 2*y**2) + 2*p2*x*y
    at = torch.tensor(np.stack([u*300 + 321, v*290 + 244], -1), dtype=torch.float32)
    d = rays(torch.eye(4), Lens(300, 290, 321, 244, k1, k2, p1, p2, k3), at)[1]
    assert np.allclose(d[..., 0], x, atol=1e-5) and np.allclose(-d[..., 1], y, atol=1e-5)


@pytest.mark.parametrize('lens', [dict(k1=-3.), dict(k1=.4, k2=-9.), dict(k3=-40.), dict(p1=2.)])
def test_a_lens_that_folds_is_named_with_its_file(lens, tmp_path):
    folder = scene(tmp_path, camera_angle_x=1.2, **lens)
    assert 'transforms.json: this lens folds' in line(open_scene, folder)
    said = line(rays, torch.eye(4), Lens(8, 8, 8, 8, **lens), pixels(16, 16))
    assert 'folds' in said


LENSES = {'the optical axis is at 400, 400 of pictures 16 x 16: give w and h':
              dict(fl_x=1111., cx=400, cy=400, camera_angle_x=None),
          'w, h say 800 x 600, the pictures are 16 x 16': dict(w=800, h=600),
          'the lens sees 0.0917 degrees': dict(fl_x=1e4, camera_angle_x=None),
          'a fisheye lens or another kind .OPENCV_FISHEYE': dict(camera_model='OPENCV_FISHEYE', k1=.1),
          'a fisheye lens or another kind .EQUIRECTANGULAR': dict(camera_model='EQUIRECTANGULAR'),
          'a fisheye lens or another kind .7': dict(camera_model=7),
          'k4 is distortion beyond': dict(k4=.1),
          "fl_x is '50': give a number": dict(fl_x='50'),
          r'w is \[16\]': dict(w=[16])}


@pytest.mark.parametrize('says', LENSES)
def test_a_lens_that_cannot_be(says, tmp_path):
    folder = scene(tmp_path, **LENSES[says])
    with pytest.raises(ValueError, match=f'transforms.json: {says}'): read_scene(folder)


ODD = {'the lens sees only 1.6 degrees': dict(fl_x=571., camera_angle_x=None),
       'the optical axis is at 4, 4 of pictures 16 x 16': dict(fl_x=14.5, cx=4, cy=4, camera_angle_x=None),
       'camera_angle_x says 28.9. pixels of focal length, fl_x 1111': dict(fl_x=1111., w=16, h=16),
       'rolling_shutter is not used': dict(rolling_shutter=[0, 0, 1e-3]),
       'rolling_shutter is': dict(rolling_shutter=3)}


@pytest.mark.parametrize('says', ODD)
def test_a_lens_that_is_odd_is_said_in_one_line(says, tmp_path, capsys):
    folder = scene(tmp_path, **ODD[says])
    notes = read_scene(folder).notes
    assert len(notes) == 1
    ViewsTask(ROW).read(folder)
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and str(folder) in err and notes[0] in err


def test_resized_pictures_are_no_news(tmp_path):
    lens = dict(w=800, h=800, fl_x=1111., fl_y=1111., cx=400, cy=400, camera_angle_x=.69)
    read = read_scene(scene(tmp_path, **lens))
    assert read.notes == () and read.lens.cx == 8 and abs(read.lens.fx - 22.22) < 1e-4


MATRICES = {'numbers': [['1', 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            'no 4 x 4 matrix': [[True, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            'below 1e9': [[1, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            'or 3 x 4': [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            'of numbers': {'0': 1}}


@pytest.mark.parametrize('says', MATRICES)
def test_matrices_that_are_none(says, tmp_path):
    folder = rewrite(scene(tmp_path), lambda m: m['frames'][3].update(transform_matrix=MATRICES[says]))
    said = line(read_scene, folder)
    assert says in said and 'r_3' in said


@pytest.mark.parametrize('word', ['NaN', 'Infinity', '-Infinity', '1e999'])
def test_no_number_that_json_lacks(word, tmp_path):
    file = scene(tmp_path)/'transforms.json'
    file.write_text(file.read_text().replace('0.0, 0.0, 0.0, 1.0', f'0.0, 0.0, 0.0, {word}', 1))
    assert 'transforms.json: not JSON' in line(read_scene, tmp_path)


def test_a_picture_with_two_poses(tmp_path):
    folder = rewrite(scene(tmp_path), lambda m: m['frames'][3].update(file_path='x/r_2.png'))
    assert 'two frames with different poses mean r_2.png' in line(read_scene, folder)
    again = scene(tmp_path/'again', frames=listed(ORBIT) + listed(ORBIT[:1]))
    assert len(read_scene(again).images) == 9                            # twice the same is no harm


# ---- what is not there, or no picture
def test_frames_that_are_left_out_are_counted_and_named(tmp_path, capsys):
    poses = torch.stack([orbit_pose(12*k, 20) for k in range(30)])
    folder = scene(tmp_path, poses)
    for k in range(3, 23): (folder/f'r_{k}.png').unlink()
    (folder/'r_1.png').write_bytes((folder/'r_1.png').read_bytes()[:-300])
    (folder/'r_2.png').write_bytes(b'words')
    read = ViewsTask(ROW).read(folder)
    assert len(read.images) == len(read.poses) == 8 and len(read.skipped) == 22
    assert torch.allclose(read.poses[:2], poses[[0, 23]], atol=1e-6)
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and '22 of 30 left out: r_2: no picture' in err and 'and 19 more' in err
    for k in range(30): (folder/f'r_{k}.png').unlink(missing_ok=True)
    assert 'none of its 30 frames' in line(read_scene, folder)


@pytest.mark.parametrize('name', ['../secret.txt', '{}/secret.txt', '', '.', '..', '\0', 'x'*5000, '\ud800',
                                  '~', 'fifo'])
def test_a_name_may_say_anything(name, tmp_path):
    "It is read as given, but only pictures are; nothing hangs."
    (tmp_path/'secret.txt').write_text('words')
    folder = scene(tmp_path/'s')
    os.mkfifo(folder/'fifo')
    rewrite(folder, lambda m: m['frames'][2].update(file_path=name.format(tmp_path)))
    if name == '': return line(read_scene, folder)
    read = read_scene(folder)
    assert len(read.images) == 7 and len(read.skipped) == 1
    assert read.skipped[0].isprintable() and len(read.skipped[0]) < 300


def test_a_picture_outside_the_folder_is_read(tmp_path):
    true = scene(tmp_path/'true')
    near = scene(tmp_path/'near', frames=listed(ORBIT, '../true/r_{}.png'))
    assert torch.equal(read_scene(near).images, read_scene(true).images)


def test_what_a_mask_leaves_out_is_white(tmp_path):
    folder, mask = scene(tmp_path, mode='RGB'), np.zeros((16, 16), np.uint8)
    mask[4:12, 3:9] = 255
    (folder/'masks').mkdir()
    for k in range(8): Image.fromarray(mask).save(folder/f'masks/{k}.png')
    plain = read_scene(folder)
    rewrite(folder, lambda m: [f.update(mask_path=f'masks\\{k}.PNG') for k, f in enumerate(m['frames'])])
    read = read_scene(folder)
    kept = torch.from_numpy(mask > 0)
    assert torch.equal(read.images, torch.where(kept, plain.images, 1.)) and '8 masks' in read.notes[0]
    Image.fromarray(mask[:9]).save(folder/'masks/3.png')
    (folder/'masks/5.png').unlink()
    (folder/'masks/6.png').write_text('words')
    read = read_scene(folder)
    assert len(read.images) == 5
    for say in ('r_3: its mask is 9 x 16, not 16 x 16', 'r_5: its mask', 'r_6: no picture'):
        assert any(say in one for one in read.skipped), say


# ---- claims of a file
def test_a_million_missing_frames(tmp_path, monkeypatch):
    "Refused before they are read; below a raised limit, folders are listed once, not searched for each."
    file = tmp_path/'transforms.json'
    file.write_text('{"camera_angle_x": 0.5, "frames": [' + ','.join(['{"file_path":"a/b"}']*10**6) + ']}')
    with monkeypatch.context() as patch:
        patch.setattr(scenes, 'read_json', None)
        said = line(read_scene, tmp_path)
    assert '1,000,000 frames, over the limit of 10,000' in said and '--limit frames=1000000' in said
    file.write_bytes(file.read_text().encode('utf-16'))
    monkeypatch.setattr(scenes, 'read_json', None)
    assert '1,000,000 frames' in line(read_scene, tmp_path)


def test_folders_are_listed_once(tmp_path, monkeypatch):
    folder, real, asked = scene(tmp_path), os.listdir, []
    rewrite(folder, lambda m: m['frames'].extend(listed([torch.eye(4)]*9000, 'gone/{}.png')))
    monkeypatch.setattr(scenes.os, 'listdir', lambda place: asked.append(place) or real(place))
    read = read_scene(folder)
    assert len(read.skipped) == 9000 and len(asked) == len(set(asked)) < 4


@pytest.mark.parametrize('text, says', [
    ('{"frames":' + '['*10**5, 'nested more than'), ('[' + '[],'*2*10**6 + '[]]', 'more lists than'),
    ('{"frames": [' + '{},'*2*10**6 + '{}]}', 'more lists than'),
    ('{"frames": 3}', 'no list'), ('[]', 'no list'), ('', 'not JSON'),
    ('{"frames": [' + '1,'*20_000 + '1]}', '20,001 frames, over')])
def test_lists_without_end(text, says, tmp_path):
    (tmp_path/'transforms.json').write_text(text)
    assert says in line(read_scene, tmp_path)


def test_limits_of_a_scene(tmp_path):
    folder = scene(tmp_path, size=(32, 32))
    with set_limits(['bytes=1000']): assert 'bytes, over the limit' in line(read_scene, folder)
    with set_limits(['frames=7']): assert '8 frames, over the limit of 7' in line(read_scene, folder)
    with set_limits(['pixels=1000']): assert 'pixels' in line(read_scene, folder)       # of each picture
    with set_limits(['pixels=8000']): assert '8,192 pixels, over the limit' in line(read_scene, folder)
    with set_limits(['pixels=8000']): assert len(read_scene(folder, 16).images) == 8     # of what is kept


def test_strips_are_averaged_as_the_whole(tmp_path):
    folder = scene(tmp_path, ORBIT[:2], size=(700, 530), camera_angle_x=.5)
    whole = read_scene(folder)
    for size in (37, 128, 530, 600):
        small = read_scene(folder, size)
        how = dict(mode='area') if size < 530 else dict(mode='bilinear')
        true = F.interpolate(whole.images, small.images.shape[-2:], **how)
        assert torch.allclose(small.images, true, atol=1e-5)
        assert abs(small.lens.fx/whole.lens.fx - size/530) < 1e-6


def test_a_large_scene_shows_a_hundred(tmp_path, capsys):
    poses = torch.stack([orbit_pose(3*k, 20) for k in range(120)])
    task, shown = ViewsTask(ROW), []

    class Model:
        inr = type('Net', (), dict(W=[torch.zeros(1)]))
        def encode(self, signal, steps): shown.append(signal['support'].shape)

    task.encode(Model(), task.read(scene(tmp_path, poses)))
    assert shown == [(1, 100, 9, 16, 16)] and '100 of its 120 pictures' in capsys.readouterr().err


# ---- layouts
def three_files(folder, counts=(5, 2, 1)):
    "As Blender's scenes are: pictures without an ending, in folders."
    first = 0
    for name, n in zip(('train', 'test', 'val'), counts):
        if n:
            scene(folder/name, ORBIT[first:first + n], first=first)
            (folder/name/'transforms.json').unlink()
            frames = listed(ORBIT)[first:first + n]
            for f in frames: f['file_path'] = f'./{name}/{f["file_path"]}'
            (folder/f'transforms_{name}.json').write_text(json.dumps(dict(camera_angle_x=.54, frames=frames)))
        first += n
    return folder


def asked_of(folder):
    "Numbers of the pictures that a score asks about, and how many there are."
    from instcomp.tasks.views import _asked
    one, = held_out(folder, ROW, 9, 0)
    true = torch.stack([torch.from_numpy(np.random.default_rng(k).integers(0, 256, (16, 16, 4), np.uint8))
                        for k in range(8)]).permute(0, 3, 1, 2).float()/255
    true = true[:, :3]*true[:, 3:] + 1 - true[:, 3:]
    which = lambda image: int((true - image).abs().flatten(1).amax(1).argmin())
    shown, asked = _asked(one, 1, 'held-out', None)
    return [which(one.images[k]) for k in shown], [which(one.images[k]) for k in asked]


def learnt_from(folder): return len(source(folder, 'train', ROW).scenes[0].images)


def test_three_files(tmp_path):
    folder = three_files(tmp_path/'all')
    assert learnt_from(folder) == 5 and asked_of(folder) == ([0], [5, 6])
    other = three_files(tmp_path/'val', (5, 0, 3))
    assert learnt_from(other) == 5 and asked_of(other) == ([0], [5, 6, 7])
    only = three_files(tmp_path/'only', (6, 0, 0))
    assert learnt_from(only) == 3 and asked_of(only) == ([0], [3, 4, 5])               # halves
    file = folder/'transforms_train.json'
    assert learnt_from(file) == 2 and asked_of(file) == ([0], [2, 3, 4])               # a file is a scene
    assert len(ViewsTask(ROW).read(folder).images) == 5
    assert scene_places(tmp_path) == [tmp_path/name for name in ('all', 'only', 'val')]


def test_three_files_that_do_not_fit(tmp_path):
    folder = three_files(tmp_path)
    (folder/'transforms_test.json').write_text('{')
    assert 'transforms_test.json: not JSON' in line(held_out, folder, ROW, 1, 0)
    assert learnt_from(folder) == 5


def test_lists_of_names_as_nerfstudio_has_them(tmp_path):
    folder = scene(tmp_path, train_filenames=[f'r_{k}' for k in (0, 2, 4, 6)], test_filenames=['r_7', 'r_1'])
    assert learnt_from(folder) == 4 and asked_of(folder) == ([0], [1, 7])
    rewrite(folder, lambda m: m.update(test_filenames=['x', 3, None]))
    assert 'names none of its frames' in line(held_out, folder, ROW, 1, 0)
    rewrite(folder, lambda m: m.update(test_filenames={}, train_filenames=7))
    assert learnt_from(folder) == 4 and asked_of(folder) == ([0], [4, 5, 6, 7])


def test_a_folder_of_scenes(tmp_path, capsys):
    for k in range(12): scene(tmp_path/f'object{k:02}')
    three_files(tmp_path/'object05')
    (tmp_path/'object05'/'transforms.json').unlink()
    assert len(source(tmp_path, 'train', ROW).scenes) == 10 and len(held_out(tmp_path, ROW, 99, 0)) == 2
    assert capsys.readouterr().err == ''
    (tmp_path/'object03'/'transforms.json').write_text('{')
    scene(tmp_path/'object04', ORBIT*FLIP)
    scene(tmp_path/'object06', ORBIT[:1])
    scenes_ = source(tmp_path, 'train', ROW).scenes
    err = capsys.readouterr().err
    assert len(scenes_) == 7 and err.count('\n') == 1 and '3 of 10 left out' in err
    for name in ('object03', 'object04', 'object06'): assert name in err
    assert [len(scenes_[k].images) for k in range(7)] == [8, 8, 7, 8, 8, 8, 8]     # the sixth is split
    for k in range(12): (tmp_path/f'object{k:02}'/'transforms.json').write_text('{')
    (tmp_path/'object05'/'transforms_train.json').write_text('{')
    assert 'none of its 10 scenes can be used' in line(source, tmp_path, 'train', ROW)


def test_folders_train_and_test_are_respected(tmp_path):
    for name in ('train/a', 'train/b', 'test/c'): scene(tmp_path/name)
    assert len(FolderScenes(tmp_path)) == 2 and len(FolderScenes(tmp_path, 'test')) == 1
    assert len(FolderScenes(tmp_path, 'val')) == 1
    alone = scene(tmp_path/'alone'/'train'/'a').parents[1]
    assert 'no folder test or val' in line(FolderScenes, alone, 'test')
    (tmp_path/'empty').mkdir()
    assert 'no transforms.json in this folder or below' in line(held_out, tmp_path/'empty', ROW, 1, 0)
    assert 'no such file' in line(held_out, tmp_path/'nowhere', ROW, 1, 0)


def test_too_few_pictures_are_known_before_a_run(tmp_path):
    folder = scene(tmp_path/'s', ORBIT[:3])
    with pytest.raises(ValueError, match='s: 1 pictures .* too few to show 1'): source(folder, 'train', ROW)
    row = ROW | dict(task=ROW['task'] | dict(support=[1, 5]))
    with pytest.raises(ValueError, match='too few to show 5'): source(scene(tmp_path/'t'), 'train', row)
    row['task']['support'] = 8
    with pytest.raises(ValueError, match='none of its 1 scenes .*8 pictures'): source(tmp_path, 'train', row)


def test_the_task_is_known_by_what_a_folder_holds(tmp_path):
    three_files(tmp_path/'scene')
    (tmp_path/'scene'/'a.wav').write_bytes(b'')
    scene(tmp_path/'many'/'deep'/'one')
    (tmp_path/'pictures').mkdir()
    Image.new('RGB', (9, 9)).save(tmp_path/'pictures'/'a.png')
    (tmp_path/'pictures'/'note.json').write_text('{}')
    for name in ('scene', 'many'):
        assert weights_for(tmp_path/name) == weights_for(tmp_path/name, 4) == 'cars-ipc'
    assert weights_for(tmp_path/'pictures') == 'photos-local'


def test_the_command_on_layouts(tmp_path, capsys):
    for k in range(2): scene(tmp_path/'two'/f'object{k}', size=(32, 32))
    three_files(tmp_path/'three')
    out = tmp_path/'v.gif'
    assert main(['reconstruct', str(tmp_path/'three'), '-o', str(out)]) == 0
    assert out.read_bytes()[:3] == b'GIF'
    out.unlink()
    assert main(['reconstruct', str(tmp_path/'two'), '-o', str(out)]) == 2 and not out.exists()
    assert f'2 scenes in it; name one, such as {tmp_path/"two"/"object0"}' in capsys.readouterr().err
    small = ['encoder.dim=16', 'encoder.heads=2', 'encoder.ff=16', 'task.points=8', 'task.rays=8']
    words = [word for one in [*small, 'task.support=1'] for word in ('--set', one)]
    for name in ('two', 'three'):
        run = ['--data', str(tmp_path/name), '--out', str(tmp_path/f'run-{name}')]
        assert main(['train', 'nvs-ipc-tiny-cars', *run, '--steps', '1', *words]) == 0
    assert main(['encode', str(tmp_path/'two'), '-o', str(tmp_path/'codes.safetensors')]) == 0


# ---- sets that are read when asked for
def test_sets_travel_to_other_processes_without_what_they_keep(tmp_path):
    for k in range(2): scene(tmp_path/'cars'/f'{k}')
    (tmp_path/'car_splits.json').write_text(json.dumps(dict(train=['0', '1'])))
    for made in (LearnitScenes(tmp_path, 'car', size=16), FolderScenes(tmp_path)):
        first = made[0].images
        sent = pickle.loads(pickle.dumps(made))
        assert made.kept and not sent.kept and torch.equal(sent[0].images, first)


def test_no_more_is_kept_than_the_limit(tmp_path):
    for k in range(5): scene(tmp_path/f'{k}')
    with set_limits(['pixels=5000']):
        made = FolderScenes(tmp_path)
        for k in (1, 2, 3, 1, 0): made[k]
        assert list(made.kept) == [1, 0]                    # 8 x 16 x 16 pixels each


@pytest.mark.parametrize('text', ['{', '[]', '{"train": 3}', '{"train": [3]}', '{"train": [["a"]]}', '3',
                                  'null', '{"test": ["a"]}', '{"train": []}', '{"train": ["\\u0000"]}',
                                  '['*9999])
def test_splits_of_another_form(text, tmp_path):
    (tmp_path/'car_splits.json').write_text(text)
    assert 'car_splits.json' in line(LearnitScenes, tmp_path, 'car')
