"transforms.json and its pictures: values, axes, names, layouts, bytes; as tools and disks leave them."
import io
import json
from functools import cache

import numpy as np
import torch
from PIL import Image

from instcomp.geometry.camera import orbit_pose
from instcomp.tasks.views import ViewsTask

NAMED = True
SIZE, VIEWS = 16, 6
ROW = dict(size=SIZE, task=dict(name='nvs', support=[1, 1], rays=8, near=2.9, far=5.1))
WORDS = [None, True, False, 0, 1, -1, .5, -.5, 1e-9, 1e9, 1e30, 10**30, 10**400, '1', '', 'x', '\ud800',
         'a\nb', '\x1b[2J', [], {}, [1], [[1]], {'a': 1}, float('nan'), float('inf')]
KEYS = ['w', 'h', 'fl_x', 'fl_y', 'cx', 'cy', 'k1', 'k2', 'k3', 'k4', 'p1', 'p2', 'camera_angle_x',
        'camera_angle_y', 'is_fisheye', 'camera_model', 'frames', 'rolling_shutter', 'train_filenames',
        'test_filenames', 'aabb_scale', 'applied_transform', 'sharpness', 'ply_file_path']
OWN = ['file_path', 'transform_matrix', 'mask_path', 'depth_file_path', *KEYS[:16]]
KINDS = ['PINHOLE', 'OPENCV', 'OPENCV_FISHEYE', 'EQUIRECTANGULAR', 'SIMPLE_RADIAL', 7]
NAMES = ['r_{}', './r_{}.png', 'r_{}.PNG', 'R_{}.png', 'images\\r_{}.png', 'C:\\x\\r_{}.png', '/x/r_{}.png',
         '../../etc/passwd', '/etc/passwd', '', '.', '..', '/', '\0', 'r_{}/', 'é'*300, 'gone_{}',
         '\ud800', 'x\ny', '/dev/zero', 'transforms.json', 'r_0.png', 'r_1', '~/r_{}']


def pick(rng, some): return some[rng.integers(len(some))]


@cache
def pictures():
    "Bytes of small pictures: cut out, opaque, grey, deep, of another size, as JPEG."
    rng, made = np.random.default_rng(0), []
    for mode, shape, kind in [('RGBA', (16, 16, 4), 'PNG'), ('RGB', (16, 16, 3), 'PNG'),
                              ('L', (16, 16), 'PNG'), ('RGB', (16, 16, 3), 'JPEG'),
                              ('RGB', (12, 20, 3), 'PNG'), ('L', (16, 16), 'GIF'),
                              ('RGB', (1, 40, 3), 'PNG'), ('RGB', (32, 32, 3), 'PNG')]:
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(out, kind)
        made.append(out.getvalue())
    return made


@cache
def poses():
    "Around a thing; in a room; side by side; one place."
    ring = torch.stack([orbit_pose(360*k/VIEWS, 15 + 20*(k % 2)) for k in range(VIEWS)])
    room, beside, still = ring*torch.tensor([-1., 1, -1, 1]), torch.eye(4).repeat(VIEWS, 1, 1), ring.clone()
    beside[:, 0, 3], still[:, :3, 3] = torch.arange(VIEWS)/3., 1.
    return [ring]*9 + [room, beside, still]


def placed(rng):
    "Matrices (V, 4, 4) as lists: right, of other axes, scaled, mirrored, far away, noisy, cut to three rows."
    m = pick(rng, poses()).clone()
    what = rng.integers(24)
    if what == 0: m = m*torch.tensor([1., -1, -1, 1])
    if what == 1: m = torch.linalg.inv(m)
    if what == 2: m[:, :3, :3] *= 10.**rng.integers(-8, 9)
    if what == 3: m[rng.integers(VIEWS), :3, rng.integers(3)] *= -1
    if what == 4: m[:, :3, 3] *= 10.**rng.integers(-9, 9)
    if what == 5: m += torch.from_numpy(rng.normal(size=m.shape)).float()*10.**rng.integers(-5, 1)
    if what == 6: m = m.mT
    if what == 7: m = m[:, [2, 0, 1, 3]]
    return (m[:, :3] if what == 8 else m).tolist()


def lens(rng):
    "What tools say of one."
    f = float(rng.uniform(15, 60))
    return pick(rng, [*[dict(camera_angle_x=.54)]*5,
                      dict(w=SIZE, h=SIZE, fl_x=f, fl_y=f, cx=SIZE/2, cy=SIZE/2, k1=.01, k2=.001, p1=0, p2=0),
                      dict(w=800, h=800, fl_x=50*f, cx=400, cy=400, camera_model='OPENCV'),
                      dict(fl_x=50*f, cx=400, cy=400),
                      dict(fl_x=f, k1=float(rng.normal()), k2=float(rng.normal())),
                      dict(camera_angle_x=float(rng.uniform(0, 3.3)), camera_angle_y=.5, aabb_scale=4)])


def spoilt(rng, meta):
    "One value is another, or absent, or new."
    frames = meta['frames']
    part, keys = (meta, KEYS) if rng.random() < .5 else (pick(rng, frames), OWN)
    key = pick(rng, keys)
    what = rng.integers(6)
    if what == 0: part.pop(key, None)
    elif what == 1 and isinstance(part.get(key), float): part[key] *= pick(rng, [0, -1, 1e-6, 1e6, 1e20])
    elif what == 2 and isinstance(part.get('transform_matrix'), list):
        key = 'transform_matrix'
        part[key] = part[key][:2] + [[pick(rng, WORDS) for _ in range(4)], [0, 0, 0, 1]]
    elif what == 3: pick(rng, frames)['file_path'] = pick(rng, NAMES).format(rng.integers(VIEWS))
    elif key == 'camera_model': part[key] = pick(rng, KINDS)
    else: part[key] = pick(rng, WORDS)


def text(rng, meta):
    "The bytes of a transforms.json: in some encoding, deep, cut short, with bytes changed."
    data = json.dumps(meta).encode(pick(rng, ['utf-8', 'utf-8', 'utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le']))
    what = rng.integers(50)
    if what == 0: data = data[:rng.integers(len(data))]
    if what == 1: data = b'{"frames":' + b'['*int(rng.integers(1, 10**5))
    if what == 2: data = b'{"frames": [' + b'{},'*50_000 + b'{}]}'
    if what == 3: data = data.replace(b'0.5', pick(rng, [b'1e999', b'NaN', b'"0.5"', b'[]', b'0,5', b'\xff']))
    if what == 4:
        data = bytearray(data)
        for _ in range(rng.integers(1, 5)): data[rng.integers(len(data))] = rng.integers(256)
    return bytes(data)


def scene(rng, folder, names):
    "One scene in a folder, its frames shared out among files of these names."
    frames = [dict(file_path=f'./r_{k}', transform_matrix=m) for k, m in enumerate(placed(rng))]
    if rng.random() < .1:
        how = pick(rng, NAMES)
        for k, frame in enumerate(frames): frame['file_path'] = how.format(k)
    if rng.random() < .1:
        for k, frame in enumerate(frames): frame |= dict(fl_x=20. + k, mask_path='mask.png')
    share = -(-len(frames)//len(names))
    for n, name in enumerate(names):
        meta = lens(rng) | dict(frames=frames[n*share:(n + 1)*share])
        for _ in range(pick(rng, [0, 0, 0, 1, 2])):
            own = meta.get('frames')
            if own and isinstance(own, list) and isinstance(own[0], dict): spoilt(rng, meta)
        (folder/name).write_bytes(text(rng, meta))
    kind = pick(rng, [0, 0, 0, *range(len(pictures()))])
    for k in range(VIEWS):
        data = pictures()[pick(rng, range(len(pictures()))) if rng.random() < .005 else kind]
        if rng.random() < .01: data = data[:rng.integers(len(data))]
        if rng.random() > .01: (folder/f'r_{k}{pick(rng, [".png", ".png", ".PNG"])}').write_bytes(data)
    if rng.random() < .5: (folder/'mask.png').write_bytes(pictures()[2])
    if rng.random() < .05: (folder/'depth.safetensors').write_bytes(rng.bytes(60))


SPLIT = ['transforms_train.json', 'transforms_test.json', 'transforms_val.json']


def make(rng, folder):
    "A folder of one scene, of one in several files, or of several scenes; or the file of one."
    what = rng.integers(10)
    if what < 6: scene(rng, folder, ['transforms.json'])
    elif what < 8: scene(rng, folder, SPLIT[:rng.integers(1, 4)])
    else:
        for name in pick(rng, [['a', 'b'], ['train', 'test'], ['a'], ['train/a', 'train/b', 'test/a']]):
            (folder/name).mkdir(parents=True)
            scene(rng, folder/name, ['transforms.json'])
    return folder/'transforms.json' if what < 2 else folder


def use(path):
    "Train on it, score it, read it: as the command does."
    task = ViewsTask(ROW)
    source = task.source(str(path), 'train')
    batch = source.batch(1, SIZE, np.random.default_rng(0), [0])
    scenes = task.evaluation(str(path), 3, 0)
    for s in scenes:
        n = len(s.images)
        assert s.images.shape == (n, 3, SIZE, SIZE) and s.poses.shape == (n, 4, 4) and n > 1
        assert 0 <= s.images.min() and s.images.max() <= 1 and s.poses.isfinite().all()
        assert torch.allclose(s.poses[:, :3, :3].mT @ s.poses[:, :3, :3], torch.eye(3), atol=.03)
        assert s.context is None or 0 < s.context < n
    assert all(v.isfinite().all() for v in batch.values())
    if len(source) == 1: assert task.describe(task.read(path))['angle'] > 0


def command(path, out): return ['reconstruct', path, '-o', out/'v.gif', '--model', 'cars-ipc']
