"Fits of one signal: all four kinds, resumed exactly, refused in one line; what the command prints."
import io
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from rooms import ROOT
from safetensors.torch import load_file

from instcomp.cli import main
from instcomp.data.audio import read_sound, write_sound
from instcomp.data.images import read_image, write_image
from instcomp.data.synthetic_views import write_views
from instcomp.experiments.builder import load
from instcomp.experiments.run import fit_file
from instcomp.geometry.mesh_files import read_mesh
from instcomp.progress import Forecast, paced, progress

pytestmark = pytest.mark.usefixtures('one_thread')
SMALL = dict(picture=dict(size=256, precision='fp32', inr=dict(hidden=24), train=dict(steps=8, every=4)),
             sound=dict(size=64, inr=dict(hidden=8), train=dict(steps=4, every=2)),
             shape=dict(size=128, inr=dict(hidden=32), task=dict(surface=2000),
                        train=dict(steps=40, every=40)),
             scene=dict(size=32, inr=dict(hidden=8), train=dict(steps=4, every=2),
                        task=dict(side=16, points=4, fine=4)))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "One signal of each kind."
    home = tmp_path_factory.mktemp('signals')
    y, x = torch.meshgrid(torch.linspace(0, 1, 12), torch.linspace(0, 1, 20), indexing='ij')
    write_image(torch.stack([y, x, y*x]), home/'picture.png')
    write_image(torch.stack([x, y, y*x]), home/'other.png')
    write_sound(torch.sin(torch.arange(900)/9)[None]/2, home/'sound.wav', 8000)
    trimesh.creation.icosphere(2, 3.).apply_translation([5, 0, 0]).export(home/'shape.ply')
    write_views(home, 'car', 1, 0, 0, views=9, size=16)
    (home/'cars'/'00000').rename(home/'scene')
    return home


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in files.iterdir(): os.symlink(file, file.name)
    return tmp_path


def words(kind):
    "The small settings as `--set` has them."
    parts = {key: value for key, value in SMALL[kind].items() if isinstance(value, dict)}
    flat = {f'{key}.{k}': v for key, value in parts.items() for k, v in value.items()}
    flat |= {key: value for key, value in SMALL[kind].items() if key not in parts}
    return [f'--set={key}={json.dumps(value)}' for key, value in flat.items()]


def call(line, capsys):
    code = main(line.split() if isinstance(line, str) else line)
    out, err = capsys.readouterr()
    return code, out, err


KINDS = {'picture': ('picture.png', 'out.png', '--scale 2.5'), 'sound': ('sound.wav', 'out.wav', '--scale 2'),
         'shape': ('shape.ply', 'out.obj', '--resolution 24'), 'scene': ('scene', 'out.gif', '--scale 0.1')}
SCORES = dict(picture='psnr', sound='si_sdr', shape='chamfer', scene='psnr_white')


@pytest.mark.parametrize('kind', KINDS)
def test_a_score_does_not_refine(kind, here, capsys):
    assert call(['fit', KINDS[kind][0], '--device', 'cpu', *words(kind)], capsys)[0] == 0
    code, _, err = call(['eval', f'runs/{kind}', '--refine', '5'], capsys)
    assert code == 2 and err.count('\n') == 1 and 'no code to refine' in err


@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_is_fitted_shown_and_scored(kind, here, capsys):
    file, out, how = KINDS[kind]
    code, said, err = call(['fit', file, '--device', 'cpu', '--json', *words(kind)], capsys)
    assert code == 0 and err == '' and json.loads(said)['step'] == SMALL[kind]['train']['steps']
    run = here/'runs'/kind
    kept = {'config.json', 'model.safetensors', 'metrics.jsonl', 'state', 'preview.png'}
    assert set(os.listdir(run)) == kept
    assert read_image(run/'preview.png').shape[0] == 3
    code, said, err = call(f'reconstruct runs/{kind} -o {out} {how} --device cpu --json', capsys)
    assert code == 0 and err == '' and json.loads(said)['bytes'] == (here/out).stat().st_size
    code, said, err = call(f'eval runs/{kind} --device cpu --json', capsys)
    assert code == 0 and err == '' and SCORES[kind] in json.loads(said)


def test_any_size_of_a_picture_and_of_a_sound(here):
    how = dict(device='cpu', bar=False)
    fit_file('picture.png', 'p', change=SMALL['picture'], **how)
    assert main('reconstruct p -o a.png --size 31x17 --device cpu'.split()) == 0
    assert read_image('a.png').shape == (3, 17, 31)
    fit_file('sound.wav', 's', change=SMALL['sound'], **how)
    for scale in 1, 2: assert main(f'reconstruct s -o {scale}.wav --scale {scale} --device cpu'.split()) == 0
    (one, rate), (two, twice) = read_sound('1.wav'), read_sound('2.wav')
    assert twice == 2*rate and two.shape[1] == 2*one.shape[1] == 1800
    assert (two[:, ::2] - one).abs().max() < 1e-3                            # the same places


def test_a_solid_keeps_its_place_and_its_size(here):
    fit_file('shape.ply', 'run', 'fit-shape-occupancy', device='cpu', bar=False,
             change=SMALL['shape'] | dict(train=dict(steps=150, lr=.01, every=150)))
    assert main('reconstruct run -o a.ply --resolution 32 --device cpu'.split()) == 0
    ball = read_mesh('a.ply')
    assert np.abs(ball.centroid - [5, 0, 0]).max() < .5 and abs(ball.volume/(4/3*np.pi*27) - 1) < .3


def test_points_with_normals_are_a_shape(here, capsys):
    ball = trimesh.creation.icosphere(3)
    rows = np.concatenate([ball.vertices, ball.vertices], 1)
    head = ''.join(f'property float {name}\n' for name in ('x', 'y', 'z', 'nx', 'ny', 'nz'))
    text = io.StringIO()
    np.savetxt(text, rows, '%.5f')
    (here/'cloud.ply').write_text(f'ply\nformat ascii 1.0\nelement vertex {len(rows)}\n{head}end_header\n'
                                  + text.getvalue())
    assert call(['fit', 'cloud.ply', '--device', 'cpu', *words('shape')], capsys)[0] == 0
    code, said, _ = call('eval runs/cloud --device cpu --json', capsys)
    score = json.loads(said)
    assert code == 0 and score['iou'] is None and score['chamfer'] < 1
    inside = ['fit', 'cloud.ply', '--preset', 'fit-shape-occupancy', '-o', 'x', '--device', 'cpu']
    code, _, err = call(inside, capsys)
    assert code == 2 and 'no inside' in err and not (here/'x').exists()


def go(home, *more, kill=None):
    "A fit in a process of its own, which may be killed while it draws its second preview."
    line = ['fit', 'picture.png', '-o', 'run', '--device', 'cpu', *words('picture'), *more]
    code = (f'import os, signal, instcomp.cli as cli\nfrom instcomp.tasks.single import OnePictureTask as T\n'
            f'draw, seen = T.preview, []\ndef preview(*a):\n  seen.append(1)\n'
            f'  if len(seen) == {kill}: os.kill(os.getpid(), signal.SIGKILL)\n  return draw(*a)\n'
            f'T.preview = preview\nraise SystemExit(cli.main({line}))')
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, '-c', code], cwd=home, env=env, capture_output=True, text=True)


def test_killed_and_resumed_it_ends_the_same(here, capsys):
    killed = go(here, kill=2)
    assert killed.returncode == -signal.SIGKILL and killed.stderr == ''
    assert json.loads((here/'run/state/state.json').read_text())['step'] == 4
    assert call(['fit', 'picture.png', '-o', 'run', '--device', 'cpu', '--resume', *words('picture')],
                capsys)[0] == 0
    fit_file('picture.png', 'whole', change=SMALL['picture'], device='cpu', bar=False)
    a, b = (load_file(f'{run}/model.safetensors') for run in ('run', 'whole'))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    drop = lambda line: {k: v for k, v in json.loads(line).items() if k != 'seconds'}
    first, second = ([drop(line) for line in open(f'{run}/metrics.jsonl')] for run in ('run', 'whole'))
    assert first == second and len(first) == 2


def test_a_run_goes_on_with_its_own_file_only(here, capsys):
    write_image(read_image('picture.png'), 'mine.png')
    assert call(['fit', 'mine.png', '-o', 'run', '--device', 'cpu', *words('picture')], capsys)[0] == 0
    again = ['--device', 'cpu', '--resume', '--steps', '16', *words('picture')]
    code, out, err = call(['fit', 'other.png', '-o', 'run', *again], capsys)
    assert code == 2 and out == '' and 'mine.png' in err and err.count('\n') == 1
    os.rename('mine.png', 'moved.png')
    code, _, err = call('eval run --device cpu', capsys)
    assert code == 2 and '--data' in err
    assert call('eval run --device cpu --data moved.png', capsys)[0] == 0
    code, _, err = call('eval run --device cpu --data other.png', capsys)
    assert code == 2 and 'not what run has learnt' in err
    assert call(['fit', 'moved.png', '-o', 'run', *again], capsys)[0] == 0


WRONG = {  # words: what the line must name
    'fit missing.png': 'missing.png', 'fit empty': 'empty', 'fit words.ply': 'words.ply',
    'fit words.png': 'words.png',
    'fit open.ply': 'watertight', 'fit bare.ply': 'normals',
    'fit sound.wav --preset fit-picture': 'fit-sound',
    'fit picture.png --preset image-ipc-tiny': 'fit-picture',
    'fit picture.png --set train.batch=2': 'train.batch',
    'fit picture.png --set size=0': 'size=0', 'fit picture.png --set task.colour=3': 'colour',
    'fit scene --set task.near=9 --set task.far=2': 'task.near', 'fit picture.png --steps 0': '--steps',
    'fit picture.png -o nowhere/deep/run': 'nowhere/deep', 'train fit-picture --out run': '--data',
    'reconstruct fitted -o a.wav': 'a.wav', 'reconstruct fitted -o a.png --resolution 9': '--resolution',
    'reconstruct fitted -o a.png --steps 3': 'resume',
    'reconstruct picture.png -o a.png --model fitted': 'one signal',
    'encode picture.png -o c.safetensors --model fitted': 'no codes',
    'encode shape.ply -o c.safetensors': 'fit'}


@pytest.fixture(scope='module')
def fitted(files, tmp_path_factory):
    out = tmp_path_factory.mktemp('runs')/'fitted'
    fit_file(files/'picture.png', out, change=SMALL['picture'], device='cpu', bar=False)
    return out


@pytest.mark.parametrize('line', WRONG)
def test_refused_in_one_line(line, here, fitted, capsys):
    os.symlink(fitted, 'fitted')
    (here/'empty').mkdir()
    for name in ('words.ply', 'words.png'): (here/name).write_text('these are words')
    ball = trimesh.creation.icosphere(1)
    trimesh.Trimesh(ball.vertices, ball.faces[3:], process=False).export('open.ply')
    (here/'bare.ply').write_bytes(trimesh.PointCloud(ball.vertices).export(file_type='ply'))
    before = sorted(os.listdir())
    code, out, err = call(line, capsys)
    assert code == 2 and out == '' and WRONG[line] in err and err.count('\n') == 1, err
    assert sorted(os.listdir()) in (before, sorted([*before, 'runs'])) and not any((here/'runs').glob('*'))


def test_a_fit_is_loaded_like_any_other_run(fitted):
    model = load(fitted, 'cpu')
    colours = model.decode(model.encode(None), torch.zeros(5, 2))
    assert colours.shape == (1, 5, 3) and not any(p.requires_grad for p in model.parameters())


COMMANDS = ['train', 'fit', 'eval', 'encode', 'decode', 'reconstruct', 'sample', 'presets', 'version', 'data']


@pytest.mark.parametrize('command', COMMANDS)
def test_every_help_ends_with_examples(command, capsys):
    code, out, _ = call([command, '--help'], capsys)
    assert code == 0 and out.index('Examples:') > out.index('Options') and f'instcomp {command}' in out


def test_the_command_imports_no_torch():
    for line in ([], ['presets'], ['presets', '--json'], ['fit', '--help']):
        code = (f'import sys, instcomp.cli as cli\nif {line}: cli.main({line})\n'
                'print("torch" in sys.modules, "numpy" in sys.modules)')
        done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == 'False False', (line, done.stderr)


def test_the_shell_completes():
    env = os.environ | dict(PYTHONPATH=str(ROOT), _INSTCOMP_COMPLETE='complete_bash', COMP_CWORD='2',
                            COMP_WORDS='instcomp train fit-p')
    code = 'import sys; sys.argv = ["instcomp"]; from instcomp.cli import main; main()'
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ['fit-picture', 'fit-picture-fourier'], done.stderr


JSON = {'presets --json': 'fit-picture', 'presets fit-picture --json': 'train', 'data list --json': 'photos',
        'presets fit-picture --explain --json': 'train.lr', 'data path photos --json': 'path',
        'version --json': 'version'}


@pytest.mark.parametrize('line, key', JSON.items())
def test_whatever_is_printed_is_also_json(line, key, capsys):
    code, out, err = call(line, capsys)
    assert code == 0 and err == '' and key in json.loads(out)


def test_codes_there_and_back_say_what_they_did(here, capsys):
    code, out, _ = call('encode picture.png -o c.safetensors --device cpu --json', capsys)
    assert code == 0 and json.loads(out)['encoded'] == 1
    (here/'done').mkdir()
    code, out, _ = call('decode c.safetensors -o done --device cpu --json', capsys)
    assert code == 0 and json.loads(out)['files'] == ['done/picture.png']


def test_a_bar_counts_steps_and_says_what_is_long(monkeypatch):
    now, said, seen = 0, io.StringIO(), []
    monkeypatch.setattr('instcomp.progress.time', SimpleNamespace(monotonic=lambda: now))
    for k in progress(range(50), file=said, disable=False):
        seen.append(k)
        now += 2                                             # seconds that each takes
    assert seen == list(range(50))
    assert said.getvalue().count('to go') == 1 and 'about 98 seconds to go' in said.getvalue()
    ticks = []
    def bar(items): return (ticks.append(i) or i for i in items)
    for part, how in paced(bar, 'ab', 4):
        for _ in range(3): how['tick']()
        assert part == 'a' and len(ticks) == 3 or part == 'b' and len(ticks) == 6
    assert len(ticks) == 8 and Forecast
