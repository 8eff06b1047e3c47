"Killed, starved of disk, fed with nonsense, split over processes: a run ends as it should have."
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny import go, tensors

from instcomp import files
from instcomp.training.checkpoint import load_weights
from instcomp.training.trainer import Objective

pytestmark = pytest.mark.usefixtures('one_thread')           # as in the processes of `child`
HERE = Path(__file__).parent
KEPT = ['config.json', 'metrics.jsonl', 'model.safetensors', 'state']


def child(*args, prefix=()):
    "Run tests/tiny.py in a process of its own, which may be killed."
    env = os.environ | dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE', PYTHONPATH=f'{HERE.parent}')
    return subprocess.run([*(prefix or [sys.executable]), str(HERE/'tiny.py'), *map(str, args)], env=env,
                          capture_output=True, text=True, timeout=600)


def names(out): return sorted(path.name for path in out.iterdir())


def lines(out): return [json.loads(line) for line in (out/'metrics.jsonl').read_text().splitlines()]


def same(a, b):
    "Bit for bit, file for file."
    assert a.keys() == b.keys()
    for file in a:
        assert a[file].keys() == b[file].keys()
        for name in a[file]: assert torch.equal(a[file][name], b[file][name]), f'{file}: {name}'


@pytest.fixture
def interruptible():
    "Jobs in the background of a shell ignore Ctrl-C; Python then installs no handler."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_run_folder(whole):
    assert names(whole) == KEPT
    assert sorted(tensors(whole)) == ['ema.safetensors', 'model.safetensors', 'optim.safetensors']
    assert [line['step'] for line in lines(whole)] == [5, 10, 15, 20, 24]
    assert all(line.keys() >= {'step', 'loss', 'psnr', 'lr', 'seconds'} for line in lines(whole))
    assert {'exp_avg/inr.W.0', 'step/inr.W.0'} <= tensors(whole)['optim.safetensors'].keys()
    same({'w': load_file(whole/'model.safetensors')}, {'w': tensors(whole)['ema.safetensors']})
    assert not list(whole.rglob('*.p*t*')), 'nothing is pickled'


def test_sigkill_then_resume_is_bit_identical(whole, tmp_path):
    out, at = tmp_path/'run', random.randrange(12, 47)       # micro-step, after the first checkpoint
    killed = child(out, f'kill={at}')
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((out/'state'/'state.json').read_text())['step'] == at//2//5*5
    go(out, resume=True)
    same(tensors(whole), tensors(out))
    strip = lambda line: {k: v for k, v in line.items() if k != 'seconds'}
    assert list(map(strip, lines(out))) == list(map(strip, lines(whole)))


def test_weights_behind_their_checkpoint_are_made_good(whole, tmp_path):
    "A stop between the checkpoint and the weights that others load: resuming writes them, without a step."
    out = tmp_path/'run'
    shutil.copytree(whole, out)
    shutil.copy(out/'state'/'model.safetensors', out/'model.safetensors')            # not the average
    assert go(out, resume=True)['step'] == 24
    same({'w': load_file(out/'model.safetensors')}, {'w': tensors(out)['ema.safetensors']})
    (out/'model.safetensors').unlink()
    go(out, resume=True)
    same({'w': load_file(out/'model.safetensors')}, {'w': tensors(whole)['ema.safetensors']})


def test_a_shorter_run_does_not_end_an_unfinished_one(tmp_path):
    out = tmp_path/'run'
    assert child(out, 'kill=33').returncode == -signal.SIGKILL           # at step 15 of 24
    held = lambda: {path: path.read_bytes() for path in out.rglob('*.*') if path.is_file()}
    before = held()
    with pytest.raises(ValueError, match='run at step 15: resume, or use another'): go(out, steps=10)
    assert held() == before and 'metrics.jsonl' in {path.name for path in before}


def test_killed_before_the_first_checkpoint(whole, tmp_path):
    out = tmp_path/'run'
    assert child(out, 'kill=3').returncode == -signal.SIGKILL
    go(out, resume=True)
    same(tensors(whole), tensors(out))


@pytest.mark.parametrize('moment', ['between the renames', 'before the old one is gone'])
def test_killed_while_a_checkpoint_changes_places(whole, tmp_path, moment):
    out = tmp_path/'run'
    go(out, steps=10, schedule='constant')
    (out/'state').rename(out/'state.old')
    if moment.startswith('before'): shutil.copytree(out/'state.old', out/'state')
    else: (out/'state.new').mkdir()
    go(out, resume=True, schedule='constant')
    go(tmp_path/'straight', schedule='constant')
    same(tensors(tmp_path/'straight'), tensors(out))
    assert not list(out.glob('state.*'))


def test_nan_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    out = tmp_path/'run'
    with pytest.raises(FloatingPointError, match='loss of step 13 .*checkpoint of step 10') as error:
        go(out, tiny.Batches(nan=25))
    assert '\n' not in str(error.value)
    assert json.loads((out/'state'/'state.json').read_text())['step'] == 10
    assert all(v.isfinite().all() for v in load_file(out/'model.safetensors').values())


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no /dev/full on this system')
@pytest.mark.parametrize('file', ['model.safetensors', 'optim.safetensors', 'state.json'])
def test_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch, file):
    out, batches = tmp_path/'run', tiny.Batches()
    def scarce(path, mode):                                  # /dev/full raises ENOSPC at the first byte
        full = (out/'state').exists() and path.parent.name == 'state.new' and file in path.name
        return open('/dev/full' if full else path, mode)
    monkeypatch.setattr(files, 'open', scarce, raising=False)
    with pytest.raises(OSError, match='step 10 not saved .*step 5 is intact') as error: go(out, batches)
    assert error.value.errno == errno.ENOSPC and '\n' not in str(error.value)
    assert json.loads((out/'state'/'state.json').read_text())['step'] == 5
    assert names(out) == KEPT
    monkeypatch.undo()
    go(out, resume=True)
    go(tmp_path/'straight')
    same(tensors(tmp_path/'straight'), tensors(out))


def test_ctrl_c_saves_and_says_how_to_go_on(whole, interruptible, tmp_path):
    out = tmp_path/'run'

    class Interrupting(tiny.Batches):
        def __getitem__(self, i):
            if i == 14: signal.raise_signal(signal.SIGINT)   # in the middle of step 8
            return super().__getitem__(i)
    with pytest.raises(KeyboardInterrupt, match='after step 8'): go(out, Interrupting())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    go(out, resume=True)
    same(tensors(whole), tensors(out))


def test_a_folder_is_not_taken_from_another_run(whole, tmp_path):
    out = tmp_path/'run'
    go(out, steps=5)
    with pytest.raises(ValueError, match='at step 5: resume'): go(out)
    with pytest.raises(ValueError, match='another run .train.lr: 0.003 and 0.1'): go(out, resume=True, lr=.1)
    go(out, resume=True)                                     # longer is not another run
    assert lines(out)[-1]['step'] == 24
    assert go(out, resume=True)['step'] == 24                # nothing left to do
    go(out)                                                  # the same run once more: nothing is lost
    same(tensors(whole), tensors(out))


def test_no_parent_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such folder'): go(tmp_path/'a'/'b')


def test_weights_of_another_architecture(whole, tmp_path):
    load_weights(tiny.model(), whole)
    other = tiny.model()
    other.inr.W[0] = torch.nn.Parameter(torch.zeros(32, 17))
    with pytest.raises(ValueError, match=r'inr.W.0 is \(32, 16\), here \(32, 17'): load_weights(other, whole)
    with pytest.raises(FileNotFoundError, match='no weights'): load_weights(other, tmp_path)
    (tmp_path/'model.safetensors').write_bytes((whole/'model.safetensors').read_bytes()[:1000])
    with pytest.raises(ValueError, match='not a whole'): load_weights(other, tmp_path)


@pytest.mark.parametrize('changes, word', [(dict(stepz=1), 'stepz'), (dict(steps=-1), 'train.steps=-1'),
    (dict(optimizer=''), 'optimizer'), (dict(schedule=''), 'schedule')])
def test_settings_are_checked_before_anything_is_written(tmp_path, changes, word):
    with pytest.raises(ValueError, match=word): go(tmp_path/'run', **changes)
    assert not list(tmp_path.iterdir())


def test_accumulation_accumulates(tmp_path):
    "Four micro-steps of 4 make the step that one batch of 16 makes; a batch of 4 makes another."
    class Four(tiny.Batches):
        def __getitem__(self, i): return torch.cat([tiny.Batches(4)[4*i + j] for j in range(4)])
    plain = dict(steps=3, noise=None, subsample=None, fraction=1., every=3)
    nets = [tiny.model(0.) for _ in range(3)]
    go(tmp_path/'micro', tiny.Batches(4), nets[0], accumulate=4, **plain)
    go(tmp_path/'large', Four(), nets[1], accumulate=1, **plain)
    go(tmp_path/'phantom', tiny.Batches(4), nets[2], accumulate=1, **plain)
    a, b, c = (torch.cat([p.flatten() for p in net.parameters()]) for net in nets)
    assert (a - b).norm() < 1e-3*(b - torch.cat([p.flatten() for p in tiny.model(0.).parameters()])).norm()
    assert (a - c).norm() > 100*(a - b).norm()


def test_bf16_really_runs(tmp_path, monkeypatch):
    "The matrix products of the encoder are bfloat16; weights, phases, last layer, losses and state are not."
    net, seen = tiny.model(), {}
    watch = lambda name: lambda module, args, out: seen.update({name: out.dtype})
    for name, module in net.named_modules():
        if module is net.inr.encoding or isinstance(module, torch.nn.Linear):
            module.register_forward_hook(watch(name))
    forward = Objective.forward
    def losses(self, *args):
        out = forward(self, *args)
        seen['losses'] = out.dtype
        return out
    monkeypatch.setattr(Objective, 'forward', losses)
    go(tmp_path/'run', net=net, precision='bf16', steps=2)
    exact = {name: seen.pop(name) for name in ('losses', 'inr.encoding')}
    assert set(exact.values()) == {torch.float32}, exact
    assert len(seen) >= 5 and set(seen.values()) == {torch.bfloat16}, seen
    for file in tensors(tmp_path/'run').values(): assert {v.dtype for v in file.values()} == {torch.float32}


def test_two_processes_agree_and_use_their_own_batches(tmp_path):
    "Two processes x 4 pictures make the steps of one process that sees all 8; each rank had other pictures."
    out, plain = tmp_path/'run', dict(steps=4, noise=None, subsample=None, fraction=1.)
    args = [f'{k}={json.dumps(v)}' for k, v in (plain | dict(dropout=0)).items()]
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    done = child(out, *args, prefix=torchrun)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(out/f'rank{rank}.safetensors') for rank in range(2))
    same({'': first}, {'': second})
    class Both(tiny.Batches):
        def __getitem__(self, i): return torch.cat([tiny.Batches(4, rank)[i] for rank in range(2)])
    net = tiny.model(0.)
    go(tmp_path/'one', Both(), net, **plain)
    start, end = tiny.model(0.).state_dict(), net.state_dict()
    flat = lambda a, b: torch.cat([(a[name] - b[name]).flatten() for name in end])
    assert flat(first, end).norm() < 1e-3*flat(end, start).norm()  # of all: Adam divides rounding by itself
    alone = tiny.model(0.)
    go(tmp_path/'rank0', tiny.Batches(4), alone, **plain)
    assert any((first[k] - v).abs().max() > 1e-4 for k, v in alone.state_dict().items())
    assert json.loads((out/'state'/'state.json').read_text())['processes'] == 2


def test_a_run_in_a_thread(tmp_path):
    "Signals belong to the main thread; training elsewhere just leaves them alone."
    done = []
    thread = threading.Thread(target=lambda: done.append(go(tmp_path/'run', steps=2)))
    thread.start()
    thread.join()
    assert done[0]['step'] == 2
