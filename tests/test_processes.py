"N processes draw what one draws: the same curve, resumable with another number of them; a lost one is told of."
import json
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tiny
import torch
from PIL import Image
from rooms import ROOT
from test_trust_runs import ENV, folder_of, views_of

from instcomp.data.audio import Clips
from instcomp.data.batches import Batches, CodecCrops, Crops, Folder, PhotoCrops, ZoomPairs, photos
from instcomp.data.scenes import SceneSource, open_scene
from instcomp.fields.coords import draw
from instcomp.models.discriminator import GANBatches
from instcomp.models.radiance import ray_query
from instcomp.tasks.local import LevelledClips
from instcomp.training.trainer import Monitor, train

pytestmark = pytest.mark.usefixtures('one_thread')
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']


# ---- draws: slices of two and of four processes are together what one process sees

@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A folder of pictures of several sizes, one turned by its EXIF, one cut short; one of sounds; a scene."
    home, rng = tmp_path_factory.mktemp('signals'), np.random.default_rng(0)
    for part in ('pictures', 'sounds'): (home/part).mkdir()
    for i, (h, w) in enumerate([(40, 30), (16, 50), (33, 33), (12, 12), (60, 21)]):
        picture = Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        exif = picture.getexif()
        if i == 1: exif[274] = 6
        picture.save(home/f'pictures/{i}.jpg', exif=exif)
    whole = (home/'pictures/0.jpg').read_bytes()
    (home/'pictures/5.jpg').write_bytes(whole[:len(whole)*2//3])
    for i, rate in enumerate([8000, 8000, 11025, 16000]):
        soundfile.write(home/f'sounds/{i}.wav', rng.uniform(-.5, .5, 3000 + 217*i), rate)
    views_of(home/'scene')
    return home


def own_crop(image, size, rng):
    "A crop of a user's own, which draws by the picture's shape."
    y = rng.integers(image.shape[1] - 8)
    return image[:, y:y + 8, :8]


def source_of(name, home):
    pictures, sounds, scene = home/'pictures', sorted((home/'sounds').iterdir()), home/'scene'
    clips = lambda **how: Clips(sounds, 8000, 1000, **how)
    make = dict(
        crops=lambda: Crops(photos('val'), augment=True), random=lambda: Folder(pictures, augment=True),
        native=lambda: Folder(pictures, 'native'), resized=lambda: Folder(pictures, 'native', side=24),
        centre=lambda: Folder(pictures, 'centre', augment=True), own=lambda: Folder(pictures, own_crop),
        codec=lambda: CodecCrops(PhotoCrops(photos('val'))),
        field=lambda: ZoomPairs(PhotoCrops(photos('val')), points=50),
        clips=lambda: clips(augment=True), levelled=lambda: LevelledClips(clips()),
        tensors=lambda: Clips([torch.linspace(0, 1, 2000), torch.linspace(-1, 0, 1500)], 8000, 1000),
        scenes=lambda: SceneSource([open_scene(scene, 'all', 16)]*3, (1, 2), 20))
    return make[name]()


def joined(parts):
    "Slices of several processes, one behind the other."
    if not isinstance(parts[0], dict): return torch.cat(parts)
    return {key: torch.cat([part[key] for part in parts if key in part]) for key in parts[0] | parts[-1]}


NAMES = ['crops', 'random', 'native', 'resized', 'centre', 'own', 'codec', 'field', 'clips', 'levelled', 'tensors',
         'scenes']


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', NAMES)
def test_slices_are_together_the_batch_of_one(name, home):
    size = 1000 if name in ('clips', 'levelled', 'tensors') else 16
    see = lambda n, rank, world, step: Batches(source_of(name, home), size, n, 3, rank, world, 9)[step]
    for step in (0, 5):
        one = see(8, 0, 1, step)
        for world in (2, 4):
            many = joined([see(8//world, rank, world, step) for rank in range(world)])
            for a, b in zip(*(v.values() if isinstance(v, dict) else [v] for v in (one, many))):
                assert torch.equal(a, b), (name, world, step)


def test_other_processes_pictures_are_not_decoded(home, monkeypatch):
    from instcomp.data import audio, batches
    seen = []
    for module, name in ((batches, 'read_image'), (audio, 'read_sound')):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real: seen.append(a[0]) or real(*a))
    for name in ('random', 'native', 'centre', 'clips', 'levelled'):
        seen.clear()
        source = source_of(name, home)
        seen.clear()                                         # what it takes to open it
        Batches(source, 1000 if name in ('clips', 'levelled') else 16, 1, rank=1, world=4)[0]
        assert len(seen) in (1, 2), (name, seen)             # two: a picture cut short, and its stand-in


def test_a_source_of_ones_own_is_cut():
    class Numbered:
        epochs = True
        def __len__(self): return 7
        def batch(self, n, size, rng, items): return dict(item=torch.tensor(items), noise=torch.tensor(rng.random(n)))
    one = Batches(Numbered(), 1, 4, seed=5)[3]
    two = [Batches(Numbered(), 1, 2, seed=5, rank=rank, world=2)[3] for rank in (0, 1)]
    assert all(torch.equal(torch.cat([part[k] for part in two]), v) for k, v in one.items())
    assert all(torch.equal(Batches(Numbered(), 1, 2, seed=5, rank=1, world=2).whole[3][k], v) for k, v in one.items())


def test_a_codec_refuses_fewer_crops_than_kinds():
    source = CodecCrops(PhotoCrops(photos('val')))
    with pytest.raises(ValueError, match='fewer processes'):
        for rank in range(4): Batches(source, 16, 1, rank=rank, world=4)[0]


@pytest.mark.parametrize('noise', [None, 'shared', 'instance'])
@pytest.mark.parametrize('subsample', [None, 'shared', 'instance'])
def test_coordinates_are_drawn_for_all(noise, subsample):
    x, y = torch.rand(40, 2), torch.rand(6, 40, 3)
    def see(y, share):
        x_, y_ = draw(x, y, .1, noise, subsample, .3, torch.Generator().manual_seed(0), share)
        return x_.expand(len(y), -1, -1), y_
    one, parts = see(y, (0, 1)), [see(y[2*rank:2*rank + 2], (rank, 3)) for rank in range(3)]
    for a, b in zip(one, map(torch.cat, zip(*parts))): assert torch.equal(a, b)


def test_samples_on_rays_are_drawn_for_all():
    signal = {name: torch.rand(4, 30, 3) for name in ('origin', 'direction', 'colour')}
    def see(rows, share):
        some = {k: v[rows] for k, v in signal.items()}
        return ray_query(some, points=5, most=20, noise=True, generator=torch.Generator().manual_seed(0), share=share)
    one, parts = see(slice(0, 4), (0, 1)), [see(slice(2*r, 2*r + 2), (r, 2)) for r in (0, 1)]
    for a, b in zip(one, map(torch.cat, zip(*parts))): assert torch.equal(a, b)


def test_players_see_what_one_process_sees():
    images, label = torch.rand(30, 3, 4, 4), torch.arange(30)
    one = GANBatches(images, 8, label)[4]
    two = [GANBatches(images, 4, label, 0, (rank, 2))[4] for rank in (0, 1)]
    assert [v for part in two for v in part[1].tolist()] != one[1].tolist()                    # group by group
    assert sorted(v for part in two for v in part[1].tolist()) == sorted(one[1].tolist())
    with pytest.raises(ValueError, match='no whole groups'): GANBatches(images, 6, share=(0, 2))


# ---- accumulation

def test_accumulation_is_the_larger_batch(tmp_path, home):
    "Where pictures come once an epoch and nothing else is drawn, 2 x 3 of them make the step of 6."
    def losses(batch, accumulate):
        batches = Batches(Folder(home/'pictures', 'centre'), 8, batch, steps=4*accumulate)
        plain = dict(steps=4, every=1, noise=None, subsample=None, fraction=1., ema=0., accumulate=accumulate)
        train(tiny.model(0.), tiny.config(**plain), batches, tmp_path/str(batch), device='cpu', precision='fp32', bar=False)
        return [json.loads(line)['loss'] for line in (tmp_path/str(batch)/'metrics.jsonl').read_text().splitlines()]
    a, b = losses(3, 2), losses(6, 1)
    assert len(a) == 4 and np.allclose(a, b, rtol=1e-4), (a, b)


# ---- the command under torchrun

PLAIN = ['--device', 'cpu', '--precision', 'fp32', '--set', 'size=16', '--set', 'encoder.dim=16', '--set',
         'encoder.heads=2', '--set', 'encoder.ff=32', '--set', 'encoder.dropout=0', '--set', 'train.batch=4']


def command(*words, prefix=(sys.executable,), **how):
    words = [*prefix, '-m', 'instcomp.cli', *words]
    return subprocess.run([*map(str, words)], env=ENV, capture_output=True, text=True, timeout=300, **how)
