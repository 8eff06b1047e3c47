"Run folders are not believed: other data, damaged files, a second process, signals, kills inside a write."
import errno
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import go, tensors

from instcomp import files, load
from instcomp.cli import main
from instcomp.data.batches import Batches
from instcomp.experiments import builder
from instcomp.experiments.builder import build, outline
from instcomp.experiments.catalog import row
from instcomp.schema import resolve
from instcomp.training import checkpoint
from instcomp.training.checkpoint import last_line, load_weights, locked
from instcomp.training.trainer import Ahead, read_ahead

pytestmark = pytest.mark.usefixtures('one_thread')
ENV = os.environ | dict(PYTHONPATH=str(Path(__file__).parents[1]), OMP_NUM_THREADS='1')
SMALL = ['--set', 'train.batch=2', '--set', 'size=16', '--set', 'encoder.patch=4', '--set', 'train.every=2']


def history(out):
    lines = [json.loads(line) for line in (out/'metrics.jsonl').read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != 'seconds'} for line in lines]


def same(a, b):
    "Two runs, bit for bit, and what they logged."
    for name, one in tensors(a).items():
        two = tensors(b)[name]
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one), name
    assert history(a) == history(b)


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def folder_of(path, n=3, **how):
    "A folder of small pictures."
    path.mkdir(parents=True)
    for i in range(n): Image.new('RGB', (24 + i, 20), (40*i, 90, 120)).save(path/f'{i}.png', **how)
    return path


def command(*words): return main([*map(str, words)])


@pytest.fixture
def out(whole, tmp_path):
    "A copy of it, to spoil."
    shutil.copytree(whole, tmp_path/'run')
    return tmp_path/'run'


def state(out, **changes):
    path = out/'state'/'state.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(out, *words, error=ValueError):
    "Neither resumed nor changed: one line that says so."
    before = everything(out)
    with pytest.raises(error) as found: go(out, resume=True, steps=30)
    said = str(found.value)
    assert '\n' not in said and len(said) < 600 and all(word in said for word in words), said
    assert everything(out) == before


# ---- which data

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A finished run on a folder of pictures."
    home = tmp_path_factory.mktemp('data')
    a, b = folder_of(home/'a'), folder_of(home/'b', 4)
    words = ['train', 'image-ipc-tiny', '--data', a, '--out', home/'run', '--steps', 2, *SMALL]
    assert command(*words) == 0
    return home, words, a, b


def test_a_run_knows_its_data(trained, capsys):
    home, words, a, b = trained
    kept = json.loads((home/'run/state/state.json').read_text())['data']
    assert kept['name'] == 'a' and kept['files'] == 3 and str(home) not in json.dumps(kept)
    before, other = everything(home/'run'), [b if word is a else word for word in words]
    for more in [], ['--resume'], ['--steps', 4, '--resume']:
        capsys.readouterr()
        assert command(*other, *more) == 2
        said = capsys.readouterr().err
        assert 'run was trained on 3 files of a, not on the 4 files that b holds' in said
        assert said.count('\n') == 1
        assert everything(home/'run') == before
    assert command(*words[:2], *words[4:], '--resume') == 2           # the photographs
    assert 'another run' in capsys.readouterr().err and everything(home/'run') == before


def test_a_moved_folder_is_the_same_data_a_changed_one_is_not(trained, tmp_path, capsys):
    home, _, a, _ = trained
    shutil.copytree(home/'run', tmp_path/'run')
    shutil.copytree(a, tmp_path/'moved')
    words = ['train', 'image-ipc-tiny', '--data', tmp_path/'moved', '--out', tmp_path/'run']
    here = [*words, *SMALL, '--resume']
    (tmp_path/'moved/notes.txt').write_text('not a picture')
    (tmp_path/'moved/.hidden.png').write_bytes(b'')
    assert command(*here, '--steps', 3) == 0
    Image.new('RGB', (99, 99)).save(tmp_path/'moved/1.png')           # the same name, another size
    assert command(*here, '--steps', 4) == 2
    assert 'not on the 3 files that moved holds' in capsys.readouterr().err


def test_a_run_of_before_goes_on_but_is_not_started_over(trained, tmp_path, capsys):
    home, words, *_ = trained
    shutil.copytree(home/'run', tmp_path/'run')
    for key in ('data', 'losses', 'optim', 'skipped'): state(tmp_path/'run', **{key: None})
    here = [tmp_path/'run' if word == home/'run' else word for word in words]
    assert command(*here) == 2 and 'does not name' in capsys.readouterr().err
    assert command(*here, '--steps', 3, '--resume') == 0
    assert json.loads((tmp_path/'run/state/state.json').read_text())['data']['files'] == 3


# ---- what files say

STATES = {
    'step': ['10', 1e308, 1e3, -1, None, True, 10**30, [1]], 'metrics_bytes': ['9', -1, .5, 10**30, True],
    'processes': [0, '1', 10**9], 'seconds': [-1, 'long', None, {}], 'scaler': [{}, {'scale': 1}, 7],
    'losses': [[], [[1]], [['a', 1]], [[0, 0], [0, 0]], 3], 'precision': ['fp64', 3], 'optim': [3, -1],
    'compiled': [True, 'yes', 1],
    'skipped': [1, 'none'], 'data': ['/home', {'name': 3}, {'name': 'a', 'files': 1}], 'unheard': [1]}


@pytest.mark.parametrize('key', STATES)
def test_a_wrong_state_is_named(out, key):
    for value in STATES[key]:
        state(out, **{key: value})
        refused(out, 'optim.safetensors' if key in ('optim', 'skipped') and type(value) is int and value > 0
                else 'state.json')


@pytest.mark.parametrize('step, file', [(23, 'optim.safetensors'), (25, 'state.json'), (10**8, 'state.json')])
def test_a_step_that_others_contradict(out, step, file):
    state(out, step=step)
    before = everything(out)
    with pytest.raises(ValueError, match=file): go(out, resume=True)
    assert everything(out) == before


@pytest.mark.parametrize('file', ['config.json', 'state/state.json'])
@pytest.mark.parametrize('text', [b'['*10**5, b'['*60 + b']'*60, b'{', b'', b'\xff\xfe', b'[]', b'null',
                                  b'{"train": 3}', b'{"train": {}}', b'{"step": ' + b'9'*5000 + b'}'])
def test_a_json_file_that_is_none(out, file, text):
    (out/file).write_bytes(text)
    refused(out, *[] if text == b'{"train": {}}' else [file.split('/')[-1]])


def test_a_long_json_file(out, monkeypatch):
    monkeypatch.setenv('INSTCOMP_LIMIT_BYTES', '1000')
    (out/'state'/'state.json').write_bytes(b' '*2000)
    refused(out, 'state.json: 2,000 bytes', '--limit bytes=2000')


@pytest.mark.parametrize('file', ['config.json', 'state/state.json', 'state/model.safetensors',
                                  'state/optim.safetensors', 'state/ema.safetensors'])
def test_a_file_that_is_gone_or_a_folder(out, file):
    (out/file).unlink()
    refused(out, file, error=OSError)
    (out/file).mkdir()
    refused(out, file, error=OSError)


METRICS = {
    'empty': lambda whole: b'', 'cut': lambda whole: whole[:-20], 'first line gone': lambda whole: whole[40:],
    'zeros': lambda whole: bytes(4000), 'zeros behind': lambda whole: whole[:200] + bytes(4000),
    'deep': lambda whole: b'['*9000 + b'\n' + whole, 'twice': lambda whole: whole + whole,
    'words': lambda whole: whole.replace(b'"loss": 0', b'"loss" 0', 1), 'gone': None}


@pytest.mark.parametrize('kind', METRICS)
def test_a_damaged_history_is_told_and_the_run_goes_on(whole, out, capsys, kind):
    path, old = out/'metrics.jsonl', (whole/'metrics.jsonl').read_bytes()
    if METRICS[kind]: path.write_bytes(METRICS[kind](old))
    else: path.unlink()
    assert go(out, resume=True, steps=30)['step'] == 30
    said = capsys.readouterr().err
    assert said.count('\n') == (kind != 'twice') and ('metrics.jsonl' in said or kind == 'twice'), said
    steps = [line['step'] for line in history(out)]
    assert steps == sorted(set(steps)) and steps[-2:] == [25, 30]
    assert set(path.read_bytes().splitlines()[:-2]) <= set(old.splitlines())       # nothing invented
    if METRICS[kind]: assert kind in ('empty', 'zeros') or len(steps) > 2


def test_a_wrong_length_of_the_history_pads_nothing(whole, out, capsys):
    for n in (0, 10, 10**8):
        state(out, metrics_bytes=n)
        go(out, resume=True)
        assert (out/'metrics.jsonl').read_bytes() == (whole/'metrics.jsonl').read_bytes()
        assert capsys.readouterr().err.count('\n') == 1


def test_a_file_that_is_no_history(out):
    (out/'metrics.jsonl').write_bytes(b'\n'*5000)
    refused(out, 'metrics.jsonl', 'remove it')
    (out/'metrics.jsonl').unlink()
    (out/'metrics.jsonl').mkdir()
    refused(out, 'metrics.jsonl')


def test_a_history_is_no_way_to_another_file(out):
    "A run folder of somebody else's may hold links: nothing behind them is cut."
    (out/'precious').write_text('kept')
    (out/'metrics.jsonl').unlink()
    (out/'metrics.jsonl').symlink_to(out/'precious')
    refused(out, 'metrics.jsonl', 'remove it')
    assert (out/'precious').read_text() == 'kept'


def test_a_finished_run_without_a_history_has_nothing_to_say(out):
    (out/'metrics.jsonl').write_bytes(b'')
    with pytest.raises(ValueError, match='no line left'): go(out, resume=True)


@pytest.mark.parametrize('text, step', [
    (b'', None), (b'{"step": 3, "seconds": 1}\n{"st', 3), (b'x\n'*9, None),
    (b'{"step": 1}\n' + b'['*10**5, 1), (b'{"step": 2}\n' + bytes(10**5), 2), (b'{"step": "2"}\n', None)])
def test_the_last_line_of_anything(tmp_path, text, step):
    (tmp_path/'metrics.jsonl').write_bytes(text)
    assert last_line(tmp_path/'metrics.jsonl').get('step') == step


SPOILT = {
    'another name': lambda t: t | {'exp_avg/nobody': torch.zeros(3)},
    'no slash': lambda t: t | dict(a=torch.zeros(3)),
    'another moment': lambda t: t | {'exp_max/inr.W.0': torch.zeros(32, 16)},
    'another shape': lambda t: t | {'exp_avg/inr.W.0': torch.zeros(3)},
    'another type': lambda t: t | {'exp_avg/inr.W.0': t['exp_avg/inr.W.0'].double()},
    'a step of many': lambda t: t | {'step/inr.W.0': torch.zeros(5)},
    'not finite': lambda t: t | {'exp_avg/inr.W.0': t['exp_avg/inr.W.0']*float('nan')},
    'a negative square': lambda t: t | {'exp_avg_sq/inr.W.0': t['exp_avg_sq/inr.W.0'] - 9},
    'an infinite step': lambda t: t | {'step/inr.W.0': torch.tensor(float('inf'))},
    'one is missing': lambda t: {k: v for k, v in t.items() if k != 'exp_avg/inr.W.0'},
    'a parameter is missing': lambda t: {k: v for k, v in t.items() if not k.endswith('inr.W.0')},
    'none': lambda t: {}}


@pytest.mark.parametrize('kind', SPOILT)
def test_an_optimiser_that_is_not_ours(out, kind):
    path = out/'state'/'optim.safetensors'
    save_file(SPOILT[kind](load_file(path)), path)
    refused(out, 'optim.safetensors')


WEIGHTS = {
    'not finite': lambda t: t | {'inr.W.1': t['inr.W.1'] + float('inf')},
    'whole': lambda t: t | {'inr.W.1': t['inr.W.1'].int()},
    'too large for us': lambda t: t | {'inr.W.1': t['inr.W.1'].double()*1e300},
    'turned': lambda t: t | {'inr.W.0': t['inr.W.0'].T.contiguous()},
    'one more': lambda t: t | {'x\ny': torch.zeros(1)}}


@pytest.mark.parametrize('kind', WEIGHTS)
def test_weights_that_are_not_ours(out, kind):
    for path in out/'state'/'model.safetensors', out/'model.safetensors':
        save_file(WEIGHTS[kind](load_file(path)), path)
        with pytest.raises(ValueError, match='model.safetensors') as error: load_weights(tiny.model(), path)
        assert '\n' not in str(error.value)
    refused(out, 'state/model.safetensors')


def test_metrics_of_somebody_else_are_not_cut(tmp_path, capsys):
    (tmp_path/'metrics.jsonl').write_text('theirs')
    assert command('train', 'image-ipc-tiny', '--out', tmp_path, *SMALL) == 2
    assert 'metrics.jsonl belongs to no run' in capsys.readouterr().err
    assert (tmp_path/'metrics.jsonl').read_text() == 'theirs'


def test_a_models_size_is_known_before_memory_is_taken(tmp_path, monkeypatch, capsys):
    wide = ['--set', f'inr.hidden={json.dumps([16384]*64)}', '--set', 'inr.depth=null']
    assert command('train', 'image-ipc-tiny', '--out', tmp_path/'run', *wide) == 2
    assert '--limit parameters=' in capsys.readouterr().err and not list(tmp_path.iterdir())
    home = tmp_path/'claims'
    home.mkdir()
    config = resolve(row('image-ipc-tiny'), dict(inr=dict(hidden=16384)))    # 800 million numbers
    (home/'config.json').write_text(json.dumps(dict(config, format=2)))
    save_file({'inr.W.0': torch.zeros(2, 2)}, home/'model.safetensors')
    made = []
    monkeypatch.setattr(builder, 'build', made.append)
    with pytest.raises(ValueError, match='model.safetensors: another architecture'): load(home, 'cpu')
    assert not made
    for key, value in dict(encoder=dict(config['encoder'], depth=10**6), inr=dict(hidden=[10**5]*2)).items():
        (home/'config.json').write_text(json.dumps(dict(config, format=2) | {key: value}))
        with pytest.raises(ValueError, match=f'config.json: .*{key}'): load(home, 'cpu')


def test_an_outline_has_the_shapes_and_draws_nothing():
    for name in 'ipc-tiny', 'local-tiny', 'ipc-conv-tiny', 'cavia-tiny', 'transinr-tiny':
        name = f'image-{name}'
        before = torch.get_rng_state()
        sketch = outline(resolve(row(name)))
        assert torch.equal(before, torch.get_rng_state()) and all(p.is_meta for p in sketch.parameters())
        shapes = [{k: (v.shape, v.dtype) for k, v in m.state_dict().items()} for m in (sketch, build(name))]
        assert shapes[0] == shapes[1]


# ---- one process at a time

def test_a_second_training_is_refused(whole, tmp_path):
    out, tried = tmp_path/'run', []

    class Curious(tiny.Batches):
        def __getitem__(self, i):
            if i == 20:
                for resume in (False, True):
                    with pytest.raises(ValueError) as error: go(out, resume=resume)
                    tried.append(str(error.value))
            return super().__getitem__(i)
    go(out, Curious())
    said = f'{out}: process {os.getpid()} on {socket.gethostname()} is training here'
    assert len(tried) == 2 and all(line.startswith(said) and '\n' not in line for line in tried)
    same(whole, out)
    assert not (out/'lock').exists()


def test_a_lock_goes_with_its_process(tmp_path):
    code = ('import os, signal, sys; from instcomp.training.checkpoint import locked\n'
            f'with locked({str(tmp_path)!r}): print(os.getpid(), flush=True); sys.stdin.read()')
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, '-c', code], **pipes) as child:
        pid = child.stdout.readline().decode().strip()
        with pytest.raises(ValueError, match=f'process {pid} on'), locked(tmp_path): pass
        child.kill()
        child.wait()
    assert (tmp_path/'lock').exists()                                 # it had no time to clean up
    with locked(tmp_path): pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('text', ['', '1', 'x'*5000, f'{os.getpid()} here\n', '-1 \n\n'],
                         ids=['empty', 'a number', 'long', 'this process', 'odd'])
def test_a_left_lock_means_nothing(out, text):
    (out/'lock').write_text(text)
    assert go(out, resume=True)['step'] == 24 and not (out/'lock').exists()


def test_a_lock_is_no_way_to_another_file(tmp_path):
    (tmp_path/'precious').write_text('kept')
    (tmp_path/'run').mkdir()
    (tmp_path/'run/lock').symlink_to(tmp_path/'precious')
    with pytest.raises(OSError): go(tmp_path/'run')
    assert (tmp_path/'precious').read_text() == 'kept'


# ---- signals and workers

@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_logs_what_an_undisturbed_one_does(whole, tmp_path, number):
    class Told(tiny.Batches):
        def __getitem__(self, i):
            if i == 14:
                for _ in range(2): signal.raise_signal(number)        # the terminal's, and a launcher's
            return super().__getitem__(i)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match='saved after step 8') as stop: go(tmp_path/'run', Told())
    finally: signal.signal(signal.SIGINT, before)
    assert stop.value.code == 128 + number
    go(tmp_path/'run', resume=True)
    same(whole, tmp_path/'run')


def test_the_commands_exit_code_tells_the_signal(tmp_path, monkeypatch, capsys):
    real = Batches.__getitem__
    def told(self, i):
        if i == 3: signal.raise_signal(signal.SIGTERM)
        return real(self, i)
    monkeypatch.setattr(Batches, '__getitem__', told)
    words = ['train', 'image-ipc-tiny', '--data', folder_of(tmp_path/'a'), '--out', tmp_path/'run']
    assert command(*words, '--steps', 9, *SMALL) == 143
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith('instcomp:')]
    assert said == ['instcomp: stopped and saved after step 4: resume to go on']


@pytest.mark.slow
def test_a_group_of_processes_gets_ctrl_c(tmp_path):
    "As from a terminal: the workers get it, too, while a batch is awaited."
    folder = folder_of(tmp_path/'a', 2)
    for i in range(2): Image.effect_noise((900, 900), 60).convert('RGB').save(folder/f'{i}.png')
    words = ['train', 'image-ipc-tiny', '--data', folder, '--out', tmp_path/'run', '--steps', 100000]
    listen = 'import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n'
    code = f'{listen}from instcomp.cli import main; sys.exit(main())'
    words = [sys.executable, '-c', code, *map(str, [*words, *SMALL, '--workers', 1])]
    child = subprocess.Popen(words, env=ENV, text=True, stderr=subprocess.PIPE, start_new_session=True)
    while not (tmp_path/'run/state/state.json').exists() and child.poll() is None: time.sleep(.05)
    os.killpg(child.pid, signal.SIGINT)
    said = child.communicate(timeout=120)[1]
    step = json.loads((tmp_path/'run/state/state.json').read_text())['step']
    assert child.returncode == 130 and 'Traceback' not in said
    assert said.splitlines()[-1] == f'instcomp: stopped and saved after step {step}: resume to go on'


def test_a_lost_worker_is_one_line(tmp_path):
    out = tmp_path/'run'
    with pytest.raises(ChildProcessError, match='has ended: killed.*checkpoint of step 5 is kept') as error:
        go(out, tiny.Batches(kill=16), workers=1)
    assert '\n' not in str(error.value) and not (out/'lock').exists()
    assert json.loads((out/'state/state.json').read_text())['step'] == 5


def test_what_a_worker_cannot_read_is_said_as_it_would_be_here():
    class Bad:
        def __getitem__(self, i): raise ValueError(f'{i}.png: no picture')
    error = pickle.loads(pickle.dumps(Ahead(Bad())[7]))
    assert type(error) is ValueError and str(error) == '7.png: no picture'
    with pytest.raises(ValueError, match='workers=1: these batches cannot be sent'):
        read_ahead([lambda: 0], range(3), 1, False)


def views_of(path):
    "A scene of four pictures."
    folder_of(path, 4)
    for i in range(4): Image.new('RGB', (32, 32), (200, 60*i, 90)).save(path/f'{i}.png')
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
    frames = [dict(file_path=f'{i}.png', transform_matrix=pose) for i in range(4)]
    (path/'transforms.json').write_text(json.dumps(dict(camera_angle_x=.5, frames=frames)))
    return path


ROWS = {'image-ipc-tiny': folder_of, 'image-local-tiny': folder_of,
        'inrgan-tiny': lambda path: folder_of(path, 9), 'nvs-ipc-tiny-cars': views_of, 'audio-ipc-tiny': None}


def words_of(name, tmp_path):
    data = ['--data', ROWS[name](tmp_path/'in')] if ROWS[name] else []
    more = ['--set', 'task.support=1'] if name.startswith('nvs') else []
    more += ['--precision', 'fp32']             # `auto` is a measurement: two runs may choose two precisions
    return ['train', name, *data, '--out', tmp_path/'run', '--steps', 2, '--set', 'train.batch=1', *more]


@pytest.mark.slow
@pytest.mark.parametrize('name', ROWS)
def test_rows_train_with_workers_that_are_spawned(name, tmp_path):
    words = words_of(name, tmp_path)
    assert command(*words, '--workers', 1) == 0
    (tmp_path/'run').rename(tmp_path/'ahead')
    assert command(*words) == 0
    same(tmp_path/'ahead', tmp_path/'run')


@pytest.mark.slow
def test_torchrun_stops_and_saves(tmp_path):
    out, many = tmp_path/'run', ['--standalone', '--nproc-per-node=2', '-m', 'instcomp.cli']
    words = ['train', 'image-ipc-tiny', '--data', folder_of(tmp_path/'a'), '--out', out, '--steps', 100000]
    words = [sys.executable, '-m', 'torch.distributed.run', *many, *words, *SMALL, '--device', 'cpu']
    child = subprocess.Popen([*map(str, words)], env=ENV, text=True, stderr=subprocess.PIPE,
                             start_new_session=True)
    while not (out/'state/state.json').exists() and child.poll() is None: time.sleep(.05)
    os.killpg(child.pid, signal.SIGTERM)
    said = child.communicate(timeout=120)[1]
    assert said.count('instcomp: stopped and saved after step') == 1
    step = int(said.split('saved after step ')[1].split(':')[0])
    kept = json.loads((out/'state/state.json').read_text())
    assert kept['step'] == step and len(kept['losses']) == 2 and not (out/'lock').exists()


# ---- kills and disks

def killed_at(out, point, count):
    "A forked process trains and dies at the count-th call of a step on the way to the disk."
    child = os.fork()
    if child: return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left, real = [count], getattr(os, point, None)
    def deadly(*args):
        left[0] -= 1
        if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    class Half:
        "A file that dies in the middle of a write."
        def __init__(self, *args): self.file = open(*args)
        def write(self, data):
            left[0] -= 1
            if left[0]: return self.file.write(data)
            self.file.write(data[:len(data)//2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        def flush(self): self.file.flush()
        def fileno(self): return self.file.fileno()
        def __enter__(self): return self
        def __exit__(self, *_): self.file.close()
    if point == 'write': files.open = checkpoint.open = Half
    else: setattr(os, point, deadly)
    try: go(out, resume=True)
    finally: os._exit(1)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this system')
def test_twenty_kills_inside_writes_lose_nothing(whole, tmp_path):
    out, step = tmp_path/'run', 0
    points = [(p, n) for n in (1, 3, 4, 6, 9) for p in ('write', 'fsync', 'replace', 'rename')]
    for point, count in points:
        assert killed_at(out, point, count) in (-signal.SIGKILL, 1), (point, count)
        kept = [out/name/'state.json' for name in ('state', 'state.old') if (out/name).exists()]
        now = json.loads(kept[0].read_text())['step'] if kept else 0
        assert now >= step, f'{point} {count}: step {step} is lost'
        step = now
    go(out, resume=True)
    same(whole, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_broken_off_between_the_renames(whole, tmp_path, monkeypatch):
    "Not by a kill: whoever presses Ctrl-C twice, and a worker's death, arrive as exceptions anywhere."
    out, real = tmp_path/'run', Path.rename
    def rename(self, to):
        if self.name == 'state.new' and (out/'state.old').exists(): raise KeyboardInterrupt
        return real(self, to)
    monkeypatch.setattr(Path, 'rename', rename)
    with pytest.raises(KeyboardInterrupt): go(out)
    monkeypatch.undo()
    assert json.loads((out/'state/state.json').read_text())['step'] == 5
    go(out, resume=True)
    same(whole, out)


def test_no_room_for_a_line_of_the_history(whole, tmp_path, monkeypatch):
    out, real = tmp_path/'run', open
    def scarce(path, *how, **more):
        full = str(path).endswith('metrics.jsonl') and (out/'state').exists()
        return real('/dev/full' if full else path, *how, **more)
    monkeypatch.setattr(checkpoint, 'open', scarce, raising=False)
    with pytest.raises(OSError, match='metrics.jsonl: not written .No space'): go(out)
    monkeypatch.undo()
    go(out, resume=True)
    same(whole, out)


def test_a_folder_that_becomes_read_only(whole, tmp_path, monkeypatch):
    def denied(self, to): raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
    out = tmp_path/'run'
    go(out, steps=5, schedule='constant')
    monkeypatch.setattr(Path, 'rename', denied)
    said = 'step 10 not saved .Permission denied.: step 5 is intact, make the folder writable'
    with pytest.raises(OSError, match=said):
        go(out, resume=True, schedule='constant')
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this system')
def test_a_read_only_folder(capfd):
    "The root user may write anywhere, so somebody else tries."
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o555)
        child = os.fork()
        if not child:
            if os.geteuid() == 0: os.setuid(65534)
            try: os._exit(command('train', 'image-ipc-tiny', '--out', f'{home}/run', '--steps', 2, *SMALL))
            finally: os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        said = [line for line in capfd.readouterr().err.splitlines() if line.startswith('instcomp:')]
        assert said == [f'instcomp: {home}: this folder cannot be written to'] and not os.listdir(home)
