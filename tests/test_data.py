"Picture files of every kind, broken ones, full disks, and batches that do not depend on who computes them."
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch.utils.data import DataLoader

from instcomp.data.batches import Batches, CodecCrops, Crops, Folder, PhotoCrops, photos
from instcomp.data.datasets import bicubic_baseline, evaluation_images, source
from instcomp.data.images import read_image, write_image
from instcomp.data.synthetic_views import object_images, photograph
from instcomp.geometry.camera import orbit_pose
from instcomp.geometry.shapes import solid

EIGHT_BITS = ['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'CMYK', 'YCbCr', 'LAB']
ENDING = {'CMYK': 'tif', 'YCbCr': 'jpg', 'LAB': 'tif'}


def scene(height=9, width=14):
    "A smooth picture (H, W, 3), uint8."
    y, x = np.mgrid[:height, :width]/max(height, width)
    return (255*np.stack([y, x, 1 - x], -1)).round().astype(np.uint8)


def refused(path):
    with pytest.raises((ValueError, OSError)) as caught: read_image(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('mode', EIGHT_BITS)
@pytest.mark.parametrize('shape', [(1, 1), (9, 14), (14, 3)])
def test_every_mode_and_shape(tmp_path, mode, shape):
    picture = Image.fromarray(scene(*shape))
    if mode == 'LAB':
        srgb, lab = (ImageCms.createProfile(name) for name in ('sRGB', 'LAB'))
        picture = ImageCms.profileToProfile(picture, srgb, lab, outputMode='LAB')
    else: picture = picture.convert(mode)
    path = tmp_path/f'x.{ENDING.get(mode, "png")}'
    picture.save(path)
    image = read_image(path)
    assert image.shape == (3, *shape) and image.dtype == torch.float32
    assert 0 <= image.min() and image.max() <= 1
    wanted = torch.from_numpy(np.array(Image.open(path).convert('RGB'))).permute(2, 0, 1)/255
    assert (image - wanted).abs().max() < 1e-6
    assert read_image(path, 'L').shape == (1, *shape)


@pytest.mark.parametrize('turn', range(1, 9))
def test_every_exif_orientation(tmp_path, turn):
    exif, path = Image.Exif(), tmp_path/'x.png'
    exif[274] = turn
    Image.fromarray(scene()).save(path, exif=exif)
    a = scene()
    upright = [a, a[:, ::-1], a[::-1, ::-1], a[::-1], a.swapaxes(0, 1), np.rot90(a, -1),
               a[::-1, ::-1].swapaxes(0, 1), np.rot90(a)][turn - 1]
    image = (read_image(path)*255).round().byte().permute(1, 2, 0)
    assert torch.equal(image, torch.from_numpy(upright.copy()))


@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, ending):
    values = np.linspace(0, 65535, 60).round().astype(np.uint16).reshape(5, 12)
    Image.fromarray(values).save(tmp_path/f'x.{ending}')
    image = read_image(tmp_path/f'x.{ending}')
    assert torch.allclose(image, torch.from_numpy(values/65535).float().expand(3, -1, -1), atol=1e-6)


def test_floats_outside_the_range_are_refused(tmp_path):
    for factor in (1, 3):
        Image.fromarray(np.float32(scene()[..., 0]/255*factor)).save(tmp_path/f'{factor}.tif')
    assert read_image(tmp_path/'1.tif').max() <= 1
    refused(tmp_path/'3.tif')


def test_48_megapixels(tmp_path):
    Image.new('RGB', (8000, 6000), (255, 0, 51)).save(tmp_path/'x.jpg', quality=95)
    image = read_image(tmp_path/'x.jpg')
    assert image.shape == (3, 6000, 8000)
    assert (image[:, ::999, ::999] - torch.tensor([1, 0, .2])[:, None, None]).abs().max() < .02


@pytest.mark.parametrize('ending', ['png', 'jpg', 'gif', 'bmp', 'tif', 'webp'])
def test_a_file_cut_anywhere_is_refused_never_padded(tmp_path, ending):
    Image.fromarray(scene(40, 64)).save(tmp_path/f'whole.{ending}')
    whole, path = (tmp_path/f'whole.{ending}').read_bytes(), tmp_path/f'cut.{ending}'
    image = read_image(tmp_path/f'whole.{ending}')
    for length in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:length])
        try: cut = read_image(path)
        except ValueError as error: assert str(path) in str(error) and '\n' not in str(error)
        else: assert torch.equal(cut, image), f'{length} of {len(whole)} bytes: another picture'


@pytest.mark.parametrize('ending', ['png', 'jpg', 'gif', 'bmp', 'tif', 'webp'])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, ending):
    Image.fromarray(scene(20, 30)).save(tmp_path/f'x.{ending}', exif=Image.Exif())
    whole, rng = (tmp_path/f'x.{ending}').read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        bytes_[rng.integers(min(len(whole), 400), size=3)] = rng.integers(256, size=3)
        (tmp_path/f'x.{ending}').write_bytes(bytes_.tobytes())
        try: assert read_image(tmp_path/f'x.{ending}').shape[0] == 3
        except ValueError as error: assert f'x.{ending}' in str(error) and '\n' not in str(error)


def test_refused_by_name(tmp_path):
    (tmp_path/'text.png').write_text('hello')
    (tmp_path/'empty.jpg').write_bytes(b'')
    for name in ('text.png', 'empty.jpg', 'missing.png', '.'): refused(tmp_path/name)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_image(torch.zeros(3, 8, 8), tmp_path/'x.png')
    before = (tmp_path/'x.png').read_bytes()
    script = f'''
        import resource, signal, torch
        from instcomp.data.images import write_image
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))       # as good as a full disk
        try: write_image(torch.rand(3, 99, 99), {str(tmp_path/'x.png')!r})
        except OSError as error: print(error)'''
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(script)], capture_output=True, text=True)
    assert 'x.png' in done.stdout and len(done.stdout.splitlines()) == 1, done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ['x.png'] and (tmp_path/'x.png').read_bytes() == before


def test_pictures_of_another_start_are_not_taken_for_these(tmp_path):
    kept = object_images(3, 8, keep=tmp_path/'kept')
    assert torch.equal(object_images(3, 8, keep=tmp_path/'kept')['pictures'], kept['pictures'])
    with pytest.raises(ValueError, match='another picture than'): object_images(3, 8, 9, tmp_path/'kept')


def test_a_far_camera_sees_the_outline(tmp_path):
    "As much of the picture as with borders left hard."
    pose, body = orbit_pose(30, 20, 20.)[None], solid('car', 0)
    soft, hard = (photograph(body, pose, 64, .12, over=n)['pictures'][0, 3] for n in (2, 1))
    assert hard.mean() > .05 and abs(soft.mean() - hard.mean()) < .1*hard.mean()


@pytest.mark.parametrize('n', [1, 2])
def test_too_small_a_batch_for_the_codec_says_so(n):
    with pytest.raises(ValueError, match=f'batch {n}: too few'):
        CodecCrops(PhotoCrops(photos('val'))).batch(n, 16, np.random.default_rng(0))


@pytest.mark.parametrize('shape', [(20, 30), (40, 10), (7, 7)])
def test_a_baseline_of_one_pixel(shape):
    image = torch.rand(1, 3, *shape)
    assert bicubic_baseline(image, 3).flatten(2).std(2).max() < 1e-5
    with pytest.raises(ValueError, match='k=2: give at least 3'): bicubic_baseline(image, 2)


def test_sets_of_sounds_and_views_are_not_pictures():
    for name, what in dict(voices='sounds', librispeech='sounds', cars='views').items():
        with pytest.raises(ValueError, match=f'{name} holds {what}'): source(name)


def test_photographs_need_no_network(monkeypatch):
    def offline(*args, **kwargs): raise OSError('no network here')
    monkeypatch.setattr(socket.socket, 'connect', offline)
    assert len(photos('train')) == 7 and evaluation_images('photos', 32).shape == (256, 3, 32, 32)


def test_importing_data_loads_no_other_library():
    script = 'import sys, instcomp.data; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert not {'torchvision', 'skimage', 'matplotlib'} & set(done.stdout.split())


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    for i in range(5):
        write_image(torch.from_numpy(scene(40 + i, 50)/255).permute(2, 0, 1), folder/f'{i}.png')
    return {'crops': Crops(photos('val'), augment=True), 'folder': Folder(folder, augment=True)}


@pytest.mark.filterwarnings('ignore:This DataLoader will create')            # on a machine with one core
@pytest.mark.parametrize('name', ['crops', 'folder'])
def test_workers_do_not_change_a_batch(sources, name):
    run = Batches(sources[name], size=16, batch=4, seed=3, steps=9)
    load = lambda workers: list(DataLoader(run, batch_size=None, sampler=range(2, 9), num_workers=workers))
    alone, helped = load(0), load(2)
    assert len(alone) == 7 and all(torch.equal(a, b) for a, b in zip(alone, helped))


@pytest.mark.parametrize('name', ['crops', 'folder'])
def test_ranks_seeds_and_steps_differ(sources, name):
    batch = lambda seed, rank, step: Batches(sources[name], 16, 4, seed, rank, 2, 9)[step]
    draws = [batch(*key) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    assert torch.equal(draws[0], batch(0, 0, 0))
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
