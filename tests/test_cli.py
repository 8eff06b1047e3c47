"What the command refuses, in one line and without leaving anything; and what it converts, exactly."
import errno
import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rooms import ROOT

import instcomp.cli as cli
from instcomp.experiments.builder import build, resolve
from instcomp.experiments.catalog import row
from instcomp.tasks.image import nearest

SMALL = dict(size=16, inr=dict(hidden=[16]*4), encoder=dict(dim=16, heads=2, ff=32), train=dict(batch=2))
SETS = [f'--set={section}.{key}={json.dumps(value)}' for section in ['inr', 'encoder', 'train']
        for key, value in SMALL[section].items()] + ['--set=size=16']


@pytest.fixture(scope='session')
def runs(tmp_path_factory):
    "Two models of the same shape, and what can be wrong with such a folder."
    home = tmp_path_factory.mktemp('runs')
    for seed, name in enumerate(['one', 'two']):
        torch.manual_seed(seed)
        build(resolve(row('image-ipc-tiny'), SMALL)).save(home/name)
    build(resolve(row('image-ipc-tiny'), SMALL | dict(inr=dict(hidden=[24]*4)))).save(home/'wide')
    for name in ['bare', 'other', 'damaged', 'words', 'later', 'unknown']:
        shutil.copytree(home/'one', home/name)
    (home/'bare'/'model.safetensors').unlink()
    shutil.copy(home/'wide'/'model.safetensors', home/'other')
    whole = (home/'one'/'model.safetensors').read_bytes()
    (home/'damaged'/'model.safetensors').write_bytes(whole[:len(whole)//2])
    (home/'words'/'config.json').write_text('not json')
    config = json.loads((home/'one'/'config.json').read_text())
    (home/'later'/'config.json').write_text(json.dumps(config | dict(format=99)))
    (home/'unknown'/'config.json').write_text(json.dumps(config | dict(colour='red')))
    return home


@pytest.fixture
def here(tmp_path, monkeypatch, runs):
    "An empty working folder with the runs beside it, and a few inputs."
    monkeypatch.chdir(tmp_path)
    os.symlink(runs, 'models')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save('good.png')
    Image.open('good.png').save('good.jpg')
    (tmp_path/'text.png').write_text('these are words')
    (tmp_path/'cut.jpg').write_bytes((tmp_path/'good.jpg').read_bytes()[:400])
    for folder in ['empty', 'done']: (tmp_path/folder).mkdir()
    return tmp_path


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if 'models' not in p.parts)


def call(words, capsys):
    code = cli.main(words.split())
    out, err = capsys.readouterr()
    return code, out, err


REFUSED = {  # words: what the line must name
    'reconstruct missing.png -o o.png --model models/one': 'missing.png',
    'reconstruct text.png -o o.png --model models/one': 'text.png',
    'reconstruct cut.jpg -o o.png --model models/one': 'cut.jpg',
    'reconstruct empty -o o.png --model models/one': 'empty',
    'reconstruct good.png -o nowhere/o.png --model models/one': 'nowhere',
    'reconstruct good.png -o o.gif --model models/one': 'o.gif',
    'reconstruct good.png -o done --model models/one': 'done',
    'reconstruct good.png -o o.png --model models/one --scale 10000': '--scale',
    'reconstruct good.png -o o.png --model models/one --scale 0': '--scale',
    'reconstruct good.png -o o.png --model models/one --scale -1.5': '--scale',
    'reconstruct good.png -o o.png --model models/one --steps -1': '--steps',
    'reconstruct good.png -o o.png --model models/bare': 'model.safetensors',
    'reconstruct good.png -o o.png --model models/other': 'another architecture',
    'reconstruct good.png -o o.png --model models/damaged': 'damaged',
    'reconstruct good.png -o o.png --model models/words': 'config.json',
    'reconstruct good.png -o o.png --model models/later': 'format',
    'reconstruct good.png -o o.png --model models/unknown': 'colour',
    'reconstruct good.png -o o.png --model models/none': 'models/none',
    'reconstruct good.png -o o.png --model empty': 'config.json',
    'reconstruct good.png -o o.png --model image-ipc-tiny': 'train',
    'reconstruct good.png -o o.png --model models/one --device cuda:99': 'cuda:99',
    'reconstruct good.png -o o.png --model models/one --device toaster': 'toaster',
    'reconstruct good.png': '--out',
    'train image-ipc-tinny --out run': 'image-ipc-tiny',
    'train image-ipc-tiny --steps -5 --out run': '--steps',
    'train image-ipc-tiny --steps 0 --out run': '--steps',
    'train image-ipc-tiny --steps many --out run': '--steps',
    'train image-ipc-tiny --data empty --out run': 'empty',
    'train image-ipc-tiny --data nowhere --out run': 'nowhere',
    'train image-ipc-tiny --set train.stepz=3 --out run': 'stepz',
    'train image-ipc-tiny --set modulator.name=nothing --out run': 'nothing',
    'train image-ipc-tiny --set train.lr=fast --out run': 'train.lr=fast',
    'train image-ipc-tiny --set encoder.dim=big --out run': 'encoder.dim=big',
    'train image-ipc-tiny --set train.noise=loud --out run': 'train.noise',
    'train image-ipc-tiny --set format=9 --out run': 'format',
    'train image-ipc-tiny --resume --out models/one': 'models/one',
    'train image-ipc-tiny --precision fp8 --steps 2 --out run': 'fp8',
    'train image-ipc-tiny --device cuda:99 --out run': 'cuda:99',
    'train image-ipc-tiny --out nowhere/deep/run': 'nowhere/deep',
    'train image-ipc-tiny --out good.png': 'good.png',
    'eval models/bare': 'model.safetensors',
    'eval models/other': 'another architecture',
    'eval models/none': 'models/none',
    'eval models/one --out nowhere': 'nowhere',
    'eval models/one --n 0': '--n',
    'encode missing.png -o c.safetensors --model models/one': 'missing.png',
    'encode good.png text.png -o c.safetensors --model models/one': 'text.png',
    'encode empty -o c.safetensors --model models/one': 'empty',
    'encode good.png -o nowhere/c.safetensors --model models/one': 'nowhere',
    'encode good.png -o /dev/full --model models/one': '/dev/full',
    'decode missing.safetensors -o done --model models/one': 'missing.safetensors',
    'decode good.png -o done --model models/one': 'good.png',
    'decode models/one/model.safetensors -o done --model models/one': 'model.safetensors',
    'data path celebs': 'celebs',
    'data get ffhq': 'ffhq',
    'presets image-ipc-tinny': 'image-ipc-tiny',
    'frobnicate': 'frobnicate',
}


@pytest.mark.parametrize('words', REFUSED)
def test_refused_in_one_line(words, here, capsys, monkeypatch):
    monkeypatch.setenv('INSTCOMP_DATA', str(here/'sets'))
    before = listing(here)
    code, out, err = call(words, capsys)
    assert code == 2 and out == '' and REFUSED[words] in err
    assert err.count('\n') == 1 and err.startswith('instcomp: ') and 'Traceback' not in err
    assert listing(here) == before, 'something half-written is left'


def test_module_is_the_command(here):
    "As `torchrun -m instcomp.cli` starts it."
    words, env = ['-m', 'instcomp.cli', 'train', 'tinny'], os.environ | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and 'tinny' in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA card: cuda:99 stands for it')
def test_cuda_without_a_card_is_refused(here, capsys):
    for words in ['train image-ipc-tiny --out run --device cuda', 'eval models/one --device cuda']:
        code, _, err = call(words, capsys)
        assert code == 2 and 'cuda' in err and err.count('\n') == 1
    assert not (here/'run').exists()


def test_device_full_is_still_a_device():
    if sys.platform.startswith('linux'): assert stat.S_ISCHR(os.stat('/dev/full').st_mode)


WRITES = ['reconstruct good.png -o o.png --model models/one',
          'encode good.png -o c.safetensors --model models/one',
          'eval models/one --n 2 --out done']


@pytest.mark.parametrize('words', WRITES)
def test_full_disk(words, here, capsys, monkeypatch):
    "Some bytes are written, then there is no space left."
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    def save(self, path, **_):
        with open(path, 'wb') as file: file.write(b'some')
        raise full
    def fsync(handle): raise full
    monkeypatch.setattr(Image.Image, 'save', save)
    monkeypatch.setattr(os, 'fsync', fsync)
    before = listing(here)
    code, out, err = call(words, capsys)
    assert code == 2 and 'No space left' in err and err.count('\n') == 1
    assert listing(here) == before


@pytest.mark.parametrize('words', WRITES)
def test_closed_folder(words, here, capsys, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK and access(path, mode))
    code, _, err = call(words, capsys)
    assert code == 2 and 'cannot be written' in err and err.count('\n') == 1


def test_as_a_process_with_a_real_limit(here):
    "The system itself refuses to let the file grow: exit code 2, one line, nothing left."
    limit = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); '
    words = ['encode', 'good.png', '-o', 'c.safetensors', '--model', 'models/one']
    code = f'{limit}import sys; from instcomp.cli import main; sys.exit(main({words}))'
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'c.safetensors' in done.stderr
    assert not [name for name in os.listdir() if 'safetensors' in name]


def test_other_ways_to_end(here, capsys, monkeypatch):
    "Exit code 1 for a training that broke, 130 for Ctrl-C, which says how to go on."
    for error, code, word in [(FloatingPointError('step 3'), 1, 'step 3'), (MemoryError(), 2, 'memory'),
                              (KeyboardInterrupt('saved: resume'), 130, 'resume')]:
        def broken(*args, **kwargs): raise error
        monkeypatch.setattr('instcomp.experiments.run.train_preset', broken)
        found, _, err = call('train image-ipc-tiny --out run', capsys)
        assert found == code and word in err and err.count('\n') == 1


# ---- what is converted
class Echo(torch.nn.Module):
    "Stands in for a model: its code is the tile, its decoder repeats the tile's pixels."
    def __init__(self, size):
        super().__init__()
        self.config, self.inr = dict(task='image', size=size), torch.nn.Module()
        self.inr.W = torch.nn.ParameterList([torch.zeros(1)])
    def encode(self, tiles, steps=0): return tiles
    def decode(self, code, x): return nearest(code, x.shape[:2]).permute(0, 2, 3, 1)


@pytest.fixture
def echo(here, monkeypatch, capsys):
    "file -> what comes out of reconstruct, as an array."
    def through(file, scale=2, size=16, out='o.png'):
        monkeypatch.setattr('instcomp.experiments.builder.load', lambda model, device: Echo(size))
        assert call(f'reconstruct {file} -o {out} --scale {scale}', capsys)[0] == 0
        return np.asarray(Image.open(out))
    return through


def doubled(pixels): return pixels.repeat(2, 0).repeat(2, 1)


COLOURS = np.random.default_rng(1).integers(0, 256, (20, 33, 3), dtype=np.uint8)


@pytest.mark.parametrize('shape', [(1, 1), (1, 40), (20, 33), (16, 16)])
def test_any_shape(shape, echo):
    pixels = np.resize(COLOURS, (*shape, 3))
    Image.fromarray(pixels).save('in.png')
    assert np.array_equal(echo('in.png'), doubled(pixels))


def test_grey(echo):
    Image.fromarray(COLOURS[..., 0]).save('in.png')
    assert np.array_equal(echo('in.png'), doubled(COLOURS[..., :1].repeat(3, 2)))


def test_sixteen_bits(echo):
    Image.fromarray(COLOURS[..., 0].astype(np.uint16)*257).save('in.png')
    assert np.array_equal(echo('in.png'), doubled(COLOURS[..., :1].repeat(3, 2)))


def test_transparent_is_on_white(echo):
    alpha = np.where(np.arange(33) < 16, 255, 0).astype(np.uint8)*np.ones((20, 1), np.uint8)
    Image.fromarray(np.dstack([COLOURS, alpha])).save('in.png')
    assert np.array_equal(echo('in.png'), doubled(np.where(alpha[..., None], COLOURS, 255)))


def test_palette(echo):
    picture = Image.fromarray(COLOURS).quantize(16)
    picture.save('in.png')
    assert np.array_equal(echo('in.png'), doubled(np.asarray(picture.convert('RGB'))))


def test_cmyk(echo):
    picture = Image.fromarray(COLOURS).convert('CMYK')
    picture.save('in.tif')
    assert np.array_equal(echo('in.tif'), doubled(np.asarray(picture.convert('RGB'))))


@pytest.mark.parametrize('orientation, turn', [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)),
                                               (8, np.rot90)])
def test_exif_rotation(orientation, turn, echo):
    picture = Image.fromarray(COLOURS)
    exif = picture.getexif()
    exif[274] = orientation
    picture.save('in.png', exif=exif)
    assert np.array_equal(echo('in.png'), doubled(turn(COLOURS)))


def test_48_megapixels(echo):
    y, x = np.mgrid[:6000, :8000]
    pixels = np.dstack([y//24, x//32, (x + y)//60]).astype(np.uint8)
    Image.fromarray(pixels).save('in.bmp')
    came = echo('in.bmp', 1, 750, 'o.jpg')
    assert came.shape == (6000, 8000, 3)
    assert np.abs(came[::97, ::89].astype(int) - pixels[::97, ::89]).max() < 12


# ---- what works
def test_train_then_score(here, capsys):
    words = ['train', 'image-ipc-tiny', '--steps', '2', '--out', 'run', '--precision', 'fp32', *SETS]
    assert cli.main(words) == 0
    assert {'config.json', 'model.safetensors', 'metrics.jsonl', 'state'} <= set(os.listdir('run'))
    capsys.readouterr()
    code, out, _ = call('eval run --n 8 --refine 2 --pictures --json', capsys)
    result = json.loads(out)
    assert code == 0 and out.count('\n') == 1 and result == json.loads((here/'run'/'eval.json').read_text())
    assert {'psnr', 'psnr_refined', 'refine_steps', 'code_numbers', 'psnr_mean_colour', 'n', 'protocol',
            'train_seconds', 'device'} <= set(result)
    assert result['n'] == 8 and result['refine_steps'] == 2 and result['psnr_refined'] > result['psnr']
    assert result['code_numbers'] == 16*16 and 'chelsea' in result['protocol']
    assert Image.open('run/reconstructions.png').size and Image.open('run/zoom.png').size
    code, out, _ = call('eval run --n 8', capsys)
    assert code == 0 and 'psnr' in out and '{' not in out


def test_resume_goes_on(here, capsys):
    words = ['train', 'image-ipc-tiny', '--out', 'run', '--precision', 'fp32', *SETS]
    assert cli.main([*words, '--steps', '2']) == 0 and cli.main([*words, '--steps', '3', '--resume']) == 0
    lines = (here/'run'/'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [2, 3]


def test_codes_give_the_same_picture(here, capsys):
    assert call('encode good.png good.jpg -o c.safetensors --model models/one', capsys)[0] == 0
    assert call('decode c.safetensors -o done --model models/one --scale 3', capsys)[0] == 0
    assert sorted(os.listdir('done')) == ['good-0.png', 'good-1.png']
    assert call('reconstruct good.png -o o.png --model models/one --scale 3', capsys)[0] == 0
    decoded, straight = (np.asarray(Image.open(name)).astype(int) for name in ['done/good-0.png', 'o.png'])
    assert decoded.shape == (60, 72, 3) and np.abs(decoded - straight).max() <= 1
    code, _, err = call('decode c.safetensors -o empty --model models/two', capsys)
    assert code == 2 and 'one' in err and 'two' in err and err.count('\n') == 1 and os.listdir('empty') == []


def test_lists(here, capsys):
    code, out, _ = call('presets', capsys)
    assert code == 0 and len(out.splitlines()) >= 20 and 'image-ipc-paper-celeba' in out
    code, out, _ = call('presets image-ipc-tiny', capsys)
    assert code == 0 and json.loads(out) == row('image-ipc-tiny')
    code, out, _ = call('data list', capsys)
    assert code == 0 and all(name in out for name in ['photos', 'celeba', 'imagenette', 'ffhq'])
    assert call('data path photos', capsys)[0] == call('version', capsys)[0] == call('--help', capsys)[0] == 0


def test_help_is_quick(here):
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    code = '''import sys, time; from instcomp.cli import main
print(main([]), time.process_time(), file=sys.stderr)'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and 'reconstruct' in done.stdout
    code, seconds = done.stderr.split()
    assert code == '0' and float(seconds) < 20               # of the processor, however busy the machine is


def test_codes_say_which_shipped_model_decodes_them(here, capsys):
    for words in ['encode good.png -o c.safetensors --model image-cavia', 'decode c.safetensors -o done',
                  'reconstruct good.png -o straight.png --model image-cavia']:
        assert call(words, capsys) == (0, '', '')
    assert (here/'done'/'good.png').read_bytes() == (here/'straight.png').read_bytes()


def test_refine_is_another_word_for_steps(here, capsys):
    for word in ['steps', 'refine']:
        words = f'reconstruct good.png -o {word}.png --model models/one --{word} 3'
        assert call(words, capsys) == (0, '', '')
    assert (here/'steps.png').read_bytes() == (here/'refine.png').read_bytes()
