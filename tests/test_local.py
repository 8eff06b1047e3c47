"Local codes from outside: any size, any scale, files of bytes; shipped models beside what one uses instead."
import json

import numpy as np
import pytest
import torch
from PIL import Image

from instcomp import build, grid, load, psnr
from instcomp.cli import main
from instcomp.data.batches import PhotoCrops, photos
from instcomp.data.images import read_image, write_image
from instcomp.data.speech import voices
from instcomp.models.local import MixturePCA, PatchPCA, patches
from instcomp.tasks import audio
from instcomp.tasks.image import bicubic, reconstruct
from instcomp.tasks.local import LocalBatches

CPU = ['--device', 'cpu']


@pytest.fixture(scope='module')
def local(): return load('photos-local', 'cpu')


@pytest.fixture(scope='module')
def zoom(): return load('photos-zoom', 'cpu')


@pytest.fixture(scope='module')
def cat(): return photos('test')[0][:, 40:168, 100:260]


def linear(model, y, k):
    "PCA of as many numbers, the codec's own basis."
    basis = model.codec.basis
    return model.codec.unpatches(basis.synthesise(basis.analyse(model.codec.patches(y))[:, :k]))


@pytest.mark.parametrize('k, margin', [(16, .8), (64, .5)])
def test_better_than_pca_of_as_many_numbers(local, k, margin):
    gains = []
    for picture in photos('test'):
        y = picture[None, :, :296, :448]
        made = local.samples(local.encode(y, numbers=k))
        gains.append(psnr(made, y).item() - psnr(linear(local, y, k), y).item())
    assert min(gains) > margin


@pytest.mark.parametrize('scale, gain', [(1.5, 1.5), (2, 1.2), (3, .7), (4, .6), (6, .5), (8, .4)])
def test_enlarges_better_than_bicubic(zoom, scale, gain):
    gains = []
    for y in photos('test'):
        small = [int(n/scale) for n in y.shape[1:]]
        y = y[None, :, :round(small[0]*scale), :round(small[1]*scale)]
        low = bicubic(y, small).clamp(0, 1).mul(255).round()/255
        made = reconstruct(zoom, low[0], tuple(y.shape[2:]))[None].clamp(0, 1)
        gains.append(psnr(made, y).item() - psnr(bicubic(low, y.shape[2:]).clamp(0, 1), y).item())
    assert min(gains) > gain


def test_a_batch_of_as_many_as_rows_and_columns(local):
    y = torch.rand(16, 3, 16, 16)
    code, x = local.encode(y), grid((16, 16))
    alone = torch.cat([local.decode({k: v[i:i+1] for k, v in code.items()}, x) for i in range(16)])
    torch.testing.assert_close(local.decode(code, x), alone, atol=1e-5, rtol=0)


def test_refinement_helps(local, cat):
    y = cat[None]
    scores = [psnr(local.samples(local.encode(y, steps)), y).item() for steps in (0, 30)]
    assert scores[1] > scores[0] + .1
    with pytest.raises(ValueError, match='nothing to refine'): load('photos-zoom', 'cpu').encode(y, 3)


def test_reduced_pictures_are_averages(zoom, cat):
    half = reconstruct(zoom, cat, .5)
    box = torch.nn.functional.avg_pool2d(cat[None], 2)[0]
    assert half.shape == box.shape and psnr(half[None], box[None]) > 30
    fine = torch.tensor(np.indices((64, 64)).sum(0) % 2).float().expand(3, -1, -1)      # a checkerboard
    assert reconstruct(zoom, fine, .5).std() < .1                                       # grey, no aliasing


@pytest.mark.parametrize('words, shape', [(['--scale', '1.5'], (96, 60)), (['--scale', '0.5'], (32, 20)),
                                          (['--size', '50x70'], (70, 50)), (['--scale', '2'], (128, 80))])
def test_real_scales_and_sizes(tmp_path, words, shape):
    write_image(torch.rand(3, 64, 40), tmp_path/'a.png')
    for model in ('photos-local', 'photos-zoom', 'photos-ipc'):
        args = ['reconstruct', str(tmp_path/'a.png'), '-o', str(tmp_path/'o.png'), '--model', model]
        assert main([*args, *words, '--overwrite', *CPU]) == 0
        assert read_image(tmp_path/'o.png').shape == (3, *shape)


@pytest.mark.parametrize('words', ['--scale 0', '--scale -2', '--scale nan', '--scale inf', '--size 5',
                                   '--size 0x9', '--size 4x4 --scale 2', '--scale 1e5'])
def test_wrong_sizes_are_one_line(tmp_path, capsys, words):
    write_image(torch.rand(3, 64, 40), tmp_path/'a.png')
    args = ['reconstruct', str(tmp_path/'a.png'), '-o', str(tmp_path/'o.png'), *words.split(), *CPU]
    assert main(args) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and '--s' in err and not (tmp_path/'o.png').exists()


def near(a, b): return psnr(read_image(a)[None], read_image(b)[None]).item()


def test_files_of_codes(tmp_path, local, cat):
    write_image(cat, tmp_path/'cat.png')
    sizes, scores = [], []
    for quality in ('20', '80'):
        codes = tmp_path/f'{quality}.safetensors'
        assert main(['encode', str(tmp_path/'cat.png'), '-o', str(codes), '--quality', quality, *CPU]) == 0
        (tmp_path/quality).mkdir()
        assert main(['decode', str(codes), '-o', str(tmp_path/quality), *CPU]) == 0
        sizes.append(codes.stat().st_size)
        scores.append(near(tmp_path/quality/'cat.png', tmp_path/'cat.png'))
    assert sizes[0] < sizes[1] and scores[0] + 4 < scores[1]
    Image.open(tmp_path/'cat.png').save(tmp_path/'cat.jpg', quality=75, optimize=True)
    jpeg = near(tmp_path/'cat.jpg', tmp_path/'cat.png')
    assert scores[0] < jpeg < scores[1]
    between = np.exp(np.interp(jpeg, scores, np.log(sizes)))
    assert between < (tmp_path/'cat.jpg').stat().st_size                        # fewer bytes at the same PSNR


def test_damaged_bytes_are_one_line(tmp_path, capsys, cat):
    write_image(cat, tmp_path/'cat.png')
    whole = tmp_path/'c.safetensors'
    assert main(['encode', str(tmp_path/'cat.png'), '-o', str(whole), *CPU]) == 0
    data, rng = whole.read_bytes(), np.random.default_rng(0)
    (tmp_path/'out').mkdir()
    for k in range(20):
        bad = bytearray(data)
        bad[int(rng.integers(len(bad)//2, len(bad)))] ^= int(rng.integers(1, 256))
        (tmp_path/'bad.safetensors').write_bytes(bytes(bad))
        assert main(['decode', str(tmp_path/'bad.safetensors'), '-o', str(tmp_path/'out'), *CPU]) == 2
        assert capsys.readouterr().err.count('\n') == 1
    assert list((tmp_path/'out').iterdir()) == []


@pytest.mark.parametrize('preset', ['image-local-tiny', 'audio-local-tiny'])
def test_tiny_presets_train(tmp_path, preset):
    out = str(tmp_path/'run')
    change = [] if 'image' in preset else ['--set', 'encoder.width=16', '--set', 'encoder.blocks=1']
    assert main(['train', preset, '--steps', '2', '--out', out, '--precision', 'fp32', *change, *CPU]) == 0
    lines = [json.loads(line) for line in (tmp_path/'run'/'metrics.jsonl').read_text().splitlines()]
    assert lines[-1]['step'] == 2 and lines[-1]['psnr'] > 10
    assert main(['eval', out, '--n', '4', '--json', *CPU]) == 0


def test_a_codec_and_a_field_in_one_batch():
    torch.manual_seed(0)
    small = dict(name='local', width=16, blocks=1)
    model = build(dict(task='image', data='folder', size=32, train={}, precision='auto', encoder=small,
                       modulator=small))
    source = LocalBatches(PhotoCrops(photos('test')), model.config)
    batch = source.batch(10, 32, np.random.default_rng(0))
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    before = model.losses(model.encode(batch), batch).mean().item()
    for _ in range(20):
        loss = model.losses(model.encode(batch), batch).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    assert all(p.grad is not None for p in model.parameters()) and loss.item() < before


# ---- mixtures of PCA

@pytest.fixture(scope='module')
def spoken(): return torch.stack(voices('test', 16_000, each=1, seconds=1.024)[:4])[:, None]       # 4 1 16384


def test_sounds_are_scored_at_their_own_level(spoken):
    model = load('speech-local', 'cpu')
    score = audio.evaluate(model, spoken[..., :8192])
    loud, faint = (audio.evaluate(model, spoken[..., :8192]*g)['si_sdr'] for g in (2., .05))
    assert score['si_sdr'] > 25 and score['psnr'] > score['psnr_mean'] + 20
    assert loud == pytest.approx(faint, abs=1e-2) and score['code_numbers'] == 4096


def test_a_mixture_of_one_set_is_pca(spoken):
    u = patches(spoken, 64).transpose(1, 2).flatten(0, 1)                                   # M 64
    one, pca = MixturePCA(64, 1, (17,)), PatchPCA(1, 64, 1)
    one.fit(u)
    pca.fit(u[u.square().mean(1) > 1e-3*u.square().mean()])
    v = patches(spoken, 64)
    z = one.analyse(v, one.choose(v, 17), 17)
    assert not z[:, 0].any()
    assert torch.allclose(one.synthesise(z), pca.synthesise(pca.analyse(v)[:, :16]), atol=1e-4)


def test_each_cell_takes_the_set_that_leaves_least(spoken):
    sets, v = load('speech-local', 'cpu').codec.sets, patches(spoken[:1, :, :2048], 64)     # 1 64 32
    error = lambda which: (sets.synthesise(sets.analyse(v, which, 16)) - v).square().sum(1)
    best = error(sets.choose(v, 16))
    for j in range(0, 64, 7): assert (best <= error(torch.full((1, 32), j)) + 1e-6).all()


def test_refinement_leaves_the_sets(spoken):
    model = load('speech-local', 'cpu')
    before, after = (model.encode(spoken[:1, :, :1024], steps)['z'] for steps in (0, 3))
    assert torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1:], after[:, 1:])


def test_a_set_that_there_is_not():
    codec = load('speech-local', 'cpu').codec
    with pytest.raises(ValueError, match='set 64 of 64'): codec.decode(torch.full((1, 16, 2), 64.))
