"N processes draw what one draws: the same curve, resumed with another number of them; a lost one is named."
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tiny
import torch
from PIL import Image
from rooms import ROOT
from safetensors.torch import load_file

from instcomp.cli import main
from instcomp.data.audio import Clips
from instcomp.data.batches import Batches, CodecCrops, Crops, Folder, PhotoCrops, ZoomPairs, photos
from instcomp.data.scenes import SceneSource, open_scene
from instcomp.experiments import run
from instcomp.experiments.run import train_preset
from instcomp.fields.coords import draw
from instcomp.geometry.camera import orbit_pose
from instcomp.models.discriminator import GANBatches
from instcomp.models.radiance import ray_query
from instcomp.tasks.local import LevelledClips
from instcomp.training.checkpoint import Interrupt
from instcomp.training.device import LOST
from instcomp.training.trainer import Monitor, hushed, train

pytestmark = pytest.mark.usefixtures('one_thread')
ENV = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']


# ---- draws: slices of two and of four processes are together what one process sees

def scene_of(path):
    "Twelve pictures of noise on white around an object, with their cameras."
    path.mkdir()
    frames, rng = [], np.random.default_rng(1)
    for i in range(12):
        picture = np.full((16, 16, 3), 255, np.uint8)
        picture[4:10, i % 8:i % 8 + 6] = rng.integers(0, 255, (6, 6, 3))
        Image.fromarray(picture).save(path/f'{i}.png')
        pose = orbit_pose(30*i, 25).tolist()
        frames.append(dict(file_path=f'{i}.png', transform_matrix=pose))
    (path/'transforms.json').write_text(json.dumps(dict(camera_angle_x=.5, frames=frames)))


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
    scene_of(home/'scene')
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


NAMES = ['crops', 'random', 'native', 'resized', 'centre', 'own', 'codec', 'field', 'clips', 'levelled',
         'tensors', 'scenes']


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
        def batch(self, n, size, rng, items):
            return dict(item=torch.tensor(items), noise=torch.tensor(rng.random(n)))
    one = Batches(Numbered(), 1, 4, seed=5)[3]
    two = [Batches(Numbered(), 1, 2, seed=5, rank=rank, world=2)[3] for rank in (0, 1)]
    assert all(torch.equal(torch.cat([part[k] for part in two]), v) for k, v in one.items())
    whole = Batches(Numbered(), 1, 2, seed=5, rank=1, world=2).whole[3]
    assert all(torch.equal(whole[k], v) for k, v in one.items())


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
        generator = torch.Generator().manual_seed(0)
        return ray_query(some, points=5, most=20, noise=True, generator=generator, share=share)
    one, parts = see(slice(0, 4), (0, 1)), [see(slice(2*r, 2*r + 2), (r, 2)) for r in (0, 1)]
    for a, b in zip(one, map(torch.cat, zip(*parts))): assert torch.equal(a, b)


def test_players_see_what_one_process_sees():
    images, label = torch.rand(30, 3, 4, 4), torch.arange(30)
    one = GANBatches(images, 8, label)[4]
    two = [GANBatches(images, 4, label, 0, (rank, 2))[4] for rank in (0, 1)]
    assert [v for part in two for v in part[1].tolist()] != one[1].tolist()             # group by group
    assert sorted(v for part in two for v in part[1].tolist()) == sorted(one[1].tolist())
    with pytest.raises(ValueError, match='no whole groups'): GANBatches(images, 6, share=(0, 2))


# ---- accumulation

def losses_of(out):
    return [json.loads(line)['loss'] for line in (out/'metrics.jsonl').read_text().splitlines()]


def test_accumulation_is_the_larger_batch(tmp_path, home):
    "Where pictures come once an epoch and nothing else is drawn, 2 x 3 of them make the step of 6."
    def losses(batch, accumulate):
        batches = Batches(Folder(home/'pictures', 'centre'), 8, batch, steps=4*accumulate)
        plain = dict(steps=4, every=1, noise=None, subsample=None, fraction=1., ema=0., accumulate=accumulate)
        out = tmp_path/str(batch)
        tiny.go(out, batches, tiny.model(0.), **plain)
        return losses_of(out)
    a, b = losses(3, 2), losses(6, 1)
    assert len(a) == 4 and np.allclose(a, b, rtol=1e-4), (a, b)


# ---- two real processes

ROWS = {
    'image-cavia-tiny': dict(inr=dict(hidden=[16, 16, 16])),
    'image-local-tiny': dict(),
    'audio-ipc-tiny': dict(inr=dict(hidden=[16]*3), encoder=dict(dim=16, heads=2, ff=16)),
    'audio-local-tiny': dict(size=512, encoder=dict(width=16, blocks=1, mixture=4)),
    'nvs-ipc-tiny-cars': dict(inr=dict(hidden=[16]*4), encoder=dict(dim=16, heads=2, ff=32), size=16,
                              task=dict(rays=32, points=8, support=1)),
    'inrgan-tiny': dict(size=16, generator=dict(scales=[[16, 2], [16, 2]], dim=8, hidden=[16, 16]),
                        discriminator=dict(widths=[8, 16, 16])),
}


def train_rows(out, home, steps=6, names=ROWS):
    "A few steps of each row, here or in each of several processes; what is begun goes on."
    where = dict(nvs='scene', inrgan='pictures', audio='sounds')
    for name in names:
        more = {} if name == 'inrgan-tiny' else dict(warmup=0, schedule='constant')
        change = ROWS[name] | dict(train=dict(batch=8, every=1) | more)
        folder = where.get(name.split('-')[0])
        data, how = folder and home/folder, dict(bar=False, resume=True)
        train_preset(name, out/name, data, steps, change, 'cpu', 'fp32', **how)


@pytest.fixture(autouse=True)
def _unscored(request, monkeypatch):
    "Held-out scores take longer than the steps; here they are asked of nobody."
    if request.node.name == 'test_every_kind_of_signal': unscored(monkeypatch.setattr)


def unscored(set):
    set(run, 'train', lambda *words, **how: train(*words[:4], None, **how))      # the fifth is the score


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_every_kind_of_signal(home, tmp_path):
    "Two processes and one have the same losses, whatever they learn from; one run was begun by one process."
    out = {n: tmp_path/str(n) for n in (1, 2)}
    for folder in out.values(): folder.mkdir()
    train_rows(out[2], home, 3, ['audio-ipc-tiny'])
    words = [*TORCHRUN, __file__, out[2], home]
    done = subprocess.run(words, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    train_rows(out[1], home)
    for name in ROWS:
        one, two = (losses_of(out[n]/name) for n in (1, 2))
        assert len(one) == 6 and np.allclose(one, two, rtol=1e-4, atol=0), (name, one, two)


PLAIN = ['--device', 'cpu', '--precision', 'fp32', '--set', 'size=16', '--set', 'inr.hidden=[16,16,16,16]']
for setting in ('encoder.dim=16', 'encoder.heads=2', 'encoder.ff=32', 'encoder.dropout=0', 'train.batch=4',
                'train.every=1', 'train.schedule="constant"', 'train.noise="instance"', 'train.fraction=0.5',
                'train.subsample="instance"', 'train.ema=0.9'): PLAIN += ['--set', setting]


def words_of(home, out, steps):
    return ['train', 'image-ipc-tiny', '--data', home/'pictures', '--out', out, '--steps', steps, *PLAIN]


def under_torchrun(*words):
    words = [*map(str, [*TORCHRUN, '-m', 'instcomp.cli', *words])]
    return subprocess.Popen(words, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_and_one_have_the_same_losses(home, tmp_path):
    "50 losses to 1e-4 relative; also when a run of two processes goes on with one at step 25."
    out = {name: tmp_path/name for name in ('one', 'two', 'less')}
    alone = lambda name, steps, *more: main([*map(str, words_of(home, out[name], steps)), *more])
    both = [under_torchrun(*words_of(home, out['two'], 50)), under_torchrun(*words_of(home, out['less'], 25))]
    assert alone('one', 50) == 0
    for child in both: assert child.wait(300) == 0, child.stderr.read()
    assert alone('less', 50, '--resume') == 0
    one = losses_of(out['one'])
    for name, folder in out.items():
        assert len(losses_of(folder)) == 50 and np.allclose(losses_of(folder), one, rtol=1e-4, atol=0), name
        made, last = load_file(folder/'model.safetensors'), load_file(out['one']/'model.safetensors')
        for key, v in last.items(): assert (made[key] - v).norm() <= 1e-3*(v.norm() + 1e-3), (name, key)


def test_the_signal_that_follows_a_loss_is_not_heard():
    "torchrun ends the others at once: the line of what is kept comes first. Alone, or unharmed, one listens."
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    def after(size, words):
        with pytest.raises(RuntimeError), Interrupt(), hushed(SimpleNamespace(size=size)):
            raise RuntimeError(words)
        try: return signal.getsignal(signal.SIGTERM)
        finally:
            for n, handler in before.items(): signal.signal(n, handler)
    assert after(2, LOST[0]) == signal.SIG_IGN
    assert after(1, LOST[0]) == after(2, 'shapes differ') == before[signal.SIGTERM]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='processes are found in /proc')
@pytest.mark.parametrize('rank', [0, 1])
def test_a_killed_process_ends_the_job_in_one_line(home, tmp_path, rank):
    out = tmp_path/'run'
    child = under_torchrun(*words_of(home, out, 100_000))
    while not (out/'state/state.json').exists() and child.poll() is None: time.sleep(.05)
    first = int((out/'lock').read_text().split()[0])
    workers = [int(p) for p in os.listdir('/proc') if p.isdigit() and parent_of(p) == child.pid]
    assert first in workers and len(workers) == 2
    os.kill(first if rank == 0 else sum(workers) - first, signal.SIGKILL)
    said = child.communicate(timeout=120)[1]
    assert child.returncode == 1
    lines = [line for line in said.splitlines() if 'instcomp:' in line]
    assert len(lines) == 1 and 'another process of this training has ended' in lines[0], said
    kept = json.loads((out/'state/state.json').read_text())
    assert f'the checkpoint of step {kept["step"]} is kept' in lines[0]
    assert main([*map(str, words_of(home, out, kept['step'] + 2)), '--resume']) == 0         # by one process
    assert len(losses_of(out)) == kept['step'] + 2


def parent_of(pid):
    try: return int((Path('/proc')/pid/'stat').read_text().rsplit(')', 1)[1].split()[1])
    except OSError: return None                              # gone


def test_a_batch_that_does_not_divide_is_refused_once(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('WORLD_SIZE', '3')
    for rank, said in ((0, 'batch 4 does not divide among 3 processes: give a multiple of 3'), (1, '')):
        monkeypatch.setenv('RANK', str(rank))
        assert main([*map(str, words_of(home, tmp_path/'run', 5))]) == 2
        assert said in (err := capsys.readouterr().err) and err.count('\n') == (rank == 0)
    assert not (tmp_path/'run').exists()


def test_sums_of_other_processes_are_shared_out():
    "A checkpoint between two lines of metrics keeps sums for each process; others share their mean."
    processes = SimpleNamespace(size=2, rank=1, device='cpu', gather=lambda v: [v.tolist()]*2)
    watch = Monitor(None, None, None, processes, None, None, 0., [[6., 3.]])
    assert watch.losses == [[6., 3.]]*2 and math.isclose(watch.read(0)[0], 2.)
    processes = SimpleNamespace(size=1, rank=0, device='cpu', gather=lambda v: [v.tolist()])
    assert Monitor(None, None, None, processes, None, None, 0., [[6., 3.], [3., 3.]]).losses == [[4.5, 3.]]


if __name__ == '__main__':
    unscored(setattr)
    train_rows(*map(Path, sys.argv[1:]))
