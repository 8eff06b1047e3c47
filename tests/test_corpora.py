"Corpora: a killed run goes on to the same bytes, processes do not overlap, tars hold what folders hold."
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from rooms import ROOT

import instcomp.cli as cli
from instcomp.data.code_files import CodeFile
from instcomp.data.code_folders import CodeFolder
from instcomp.experiments import builder, corpora
from instcomp.experiments.catalog import row
from instcomp.models.codes import parts
from instcomp.tasks.base import Task

SMALL = dict(size=16, inr=dict(hidden=[16]*4), encoder=dict(dim=16, heads=2, ff=32))
N, SHARD = 23, 5
MODEL = ['--model', 'run', '--device', 'cpu']
TO = ['-o', 'codes/', '--shard', str(SHARD), *MODEL]


def save_model(path, seed):
    torch.manual_seed(seed)
    builder.build(builder.resolve(row('image-ipc-tiny'), SMALL)).save(path)


def picture(path, seed, shape=(16, 16)):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)).save(path)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A folder `some` of pictures, two of which are none; it as a tar, as a list; two models; its codes."
    home = tmp_path_factory.mktemp('corpora')
    for name, seed in dict(run=0, other=1).items(): save_model(home/name, seed)
    (home/'some'/'deep').mkdir(parents=True)
    for k in range(N): picture(home/'some'/('deep' if k % 3 else '')/f'{k:02}.png', k, (16, 16 + k % 2))
    (home/'some/deep/05.png').write_bytes(b'no picture')
    (home/'some/21.png').write_bytes((home/'some/21.png').read_bytes()[:300])
    files = sorted((path for path in (home/'some').rglob('*.png')), key=lambda path: path.as_posix())
    (home/'list.txt').write_text('\n'.join(map(str, files)) + '\n')
    with tarfile.open(home/'some.tar', 'w') as tar:
        for path in files: tar.add(path, path.relative_to(home/'some').as_posix())
    before = os.getcwd()
    os.chdir(home)
    try: assert cli.main(['encode', 'some', *TO]) == 0
    finally: os.chdir(before)
    os.rename(home/'codes', home/'known')
    return home


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    "A working folder where all that is linked."
    for name in ('run', 'other', 'some', 'some.tar', 'list.txt', 'known'):
        os.symlink(home/name, tmp_path/name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(words, capsys):
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def refused(words, capsys, *named):
    code, out, err = call(words, capsys)
    assert (code, out) == (2, '') and err.count('\n') == 1 and err.startswith('instcomp: '), err
    assert all(word in err for word in named), err


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def numbers(codes):
    "Of each signal the numbers of its code, by what stands behind the first part of its key."
    pairs = zip(codes.keys, codes)
    return {key.partition('/')[2]: [t.tolist() for t in parts(code)] for key, (code, _) in pairs}


# ---- the folder
def test_the_index_says_what_lies_where(home):
    codes = CodeFolder(home/'known')
    assert len(codes) == N - 2 and [s['signals'] for s in codes.index['shards']] == [5, 4, 4, 5, 3]
    assert sorted(key for key, _ in codes.index['skipped']) == ['some/21.png', 'some/deep/05.png']
    for shard, file in zip(codes.index['shards'], codes.files()):
        assert [key.rpartition('/')[2] for key in shard['keys']] == [about['file'] for about in file.notes]
    assert not [*(home/'known').glob('.*')] and not (home/'known/lock').exists()


def test_decoded_as_one_file_is(here, capsys):
    assert call(['encode', 'some', '-o', 'one.safetensors', *MODEL], capsys)[0] == 0
    for name, codes in dict(a='known', b='one.safetensors').items():
        (here/name).mkdir()
        assert call(['decode', codes, '-o', name, *MODEL, '--scale', 2], capsys)[0] == 0
    assert contents(here/'a') == contents(here/'b') and len(contents(here/'a')) == N - 2
    refused(['decode', 'known', '-o', 'a', *MODEL], capsys, '--overwrite')


@pytest.mark.parametrize('word', ['some.tar', '@list.txt'])
def test_tar_list_and_folder_hold_the_same(word, here, capsys):
    code, _, err = call(['encode', word, *TO], capsys)
    assert code == 0 and f'{N - 2} of {N} files encoded' in err and '21.png' in err and '05.png' in err
    found, known = CodeFolder(here/'codes'), CodeFolder(here/'known')
    if word == 'some.tar': assert numbers(found) == numbers(known)
    else: assert list(numbers(found).values()) == list(numbers(known).values())
    assert call(['encode', word, '-o', 'one.safetensors', *MODEL], capsys)[0] == 0
    assert [about for _, about in CodeFile(here/'one.safetensors')] == known.notes


# ---- killed, and going on
def killed(words, at, point):
    "The command in a process that kills itself at the `at`-th call of a function (module or class, name)."
    where, name = point
    pid = os.fork()
    if not pid:
        inner, calls = getattr(where, name), iter(range(at))
        def deadly(*args, **more):
            if next(calls, None) is None: os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **more)
        setattr(where, name, deadly)
        try: cli.main(words)
        finally: os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_killed_twice_and_still_the_same_bytes(here, capsys, monkeypatch):
    "In the middle of a shard; between a shard and its note; before the index."
    words = ['encode', 'some', *TO]
    killed(words, 8, (Task, 'encode_file'))
    assert sorted(path.name for path in (here/'codes').glob('codes*')) == ['codes-00000.safetensors']
    refused(['decode', 'codes', '-o', '.', *MODEL], capsys, 'goes on')
    refused(['encode', 'some', *TO, '--steps', '1'], capsys, 'steps', '--overwrite')
    refused(['encode', 'some/deep', *TO], capsys, 'inputs', '--overwrite')
    refused(['encode', 'some', *TO, '--model', 'other'], capsys, 'other model')
    killed(words, 1, (corpora, 'shard_entry'))
    killed(words, 0, (corpora, 'save_index'))
    seen, inner = [], Task.encode_file
    monkeypatch.setattr(Task, 'encode_file', lambda *args, **more: seen.append(1) or inner(*args, **more))
    assert call(words, capsys)[0] == 0 and not seen, 'all was there'
    assert contents(here/'codes') == contents(here/'known')
    code, _, err = call(words, capsys)                       # all done: said again
    assert code == 0 and f'{N - 2} of {N}' in err and not seen
    assert contents(here/'codes') == contents(here/'known')


def test_stopped_by_hand(here, capsys, monkeypatch):
    inner, calls = Task.encode_file, iter(range(12))
    def tired(*args, **more):
        if next(calls, None) is None: raise KeyboardInterrupt
        return inner(*args, **more)
    monkeypatch.setattr(Task, 'encode_file', tired)
    code, _, err = call(['encode', 'some', *TO], capsys)
    assert code == 130 and '2 shards kept in codes: the same command goes on' in err
    calls = iter(range(12))
    code, _, err = call(['encode', 'some', *TO, '--overwrite'], capsys)
    assert code == 130 and '2 shards kept in codes: the same command without --overwrite goes on' in err
    monkeypatch.setattr(Task, 'encode_file', inner)
    assert call(['encode', 'some', *TO], capsys)[0] == 0 and contents(here/'codes') == contents(here/'known')


def test_other_weights_of_the_same_name(here, capsys):
    "The folder knows the weights, not the name."
    shutil.copytree(here/'run', here/'mine')
    words = ['encode', 'some', '-o', 'codes/', '--model', 'mine', '--device', 'cpu']
    assert call(words, capsys)[0] == 0
    shutil.copy(here/'other/model.safetensors', here/'mine/model.safetensors')
    refused(words, capsys, 'sha256')
    refused(['decode', 'codes', '-o', '.', '--device', 'cpu'], capsys, 'not of mine')
    assert call([*words, '--overwrite'], capsys)[0] == 0
    fresh = call(['encode', 'some', '-o', 'fresh/', '--model', 'mine', '--device', 'cpu'], capsys)
    assert fresh[0] == 0 and contents(here/'codes') == contents(here/'fresh')


def test_a_folder_of_others_is_left_alone(here, capsys):
    (here/'mine').mkdir()
    (here/'mine/codes-00000.safetensors').write_text('mine')
    for more in ([], ['--model', 'other']):
        refused(['encode', 'some', *TO, '-o', 'mine', *more], capsys, 'mine')
    assert contents(here/'mine') == {'codes-00000.safetensors': b'mine'}
    refused(['encode', 'some', *TO, '-o', 'no/where/'], capsys, 'no such folder')


# ---- processes
RANK = '''
import os, sys
from instcomp.cli import main
from instcomp.tasks.base import Task
inner = Task.encode_file
def noted(self, model, file, *args, **more):
    with open(f'rank{os.environ["RANK"]}.txt', 'a') as log: log.write(f'{file}\\n')
    return inner(self, model, file, *args, **more)
Task.encode_file = noted
sys.exit(main(sys.argv[1:]))
'''


def test_two_processes_share_without_overlap(here, capsys):
    "They go on where one was killed, and write what one writes."
    killed(['encode', 'some', *TO], 6, (Task, 'encode_file'))
    (here/'rank.py').write_text(RANK)
    words = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', 'rank.py']
    words = [sys.executable, *words, 'encode', 'some', *TO]
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS=str(torch.get_num_threads()))
    done = subprocess.run(words, cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count(f'{N - 2} of {N} files encoded') == 1, 'one speaks'
    logs = [set((here/f'rank{r}.txt').read_text().split()) for r in (0, 1)]
    assert not logs[0] & logs[1] and len(logs[0] | logs[1]) == N - SHARD and min(map(len, logs)) >= SHARD
    assert contents(here/'codes') == contents(here/'known')


# ---- what is wrong
def test_an_archive_cut_before_a_header_is_no_whole_one(here, capsys):
    with tarfile.open(here/'some.tar') as tar: at = tar.getmembers()[-2].offset
    (here/'cut.tar').write_bytes((here/'some.tar').read_bytes()[:at])
    code, _, err = call(['encode', 'cut.tar', *TO], capsys)
    assert code == 0 and err.count('\n') == 1 and 'breaks off' in err


def test_a_list_names_no_other_list(here, capsys):
    (here/'loop.txt').write_text('@loop.txt\n')
    refused(['encode', '@loop.txt', *TO], capsys, 'loop.txt: a list names no other list')


def test_bad_inputs_cost_nothing_else(here, capsys):
    data = (here/'some.tar').read_bytes()
    (here/'cut.tar').write_bytes(data[:len(data)//2])
    code, _, err = call(['encode', 'cut.tar', *TO], capsys)
    assert code == 0 and err.count('\n') == 1 and ('breaks off' in err or 'a damaged archive' in err)
    assert 5 < len(CodeFolder(here/'codes')) < N - 5
    (here/'none.tar').write_bytes(b'x'*2000)
    refused(['encode', 'none.tar', *TO, '--overwrite'], capsys, 'none.tar')
    refused(['encode', 'some/21.png', 'some/00.png', '-o', 'new/', *MODEL], capsys, '21.png')
    (here/'gone.txt').write_text('gone.png\nsome/21.png\n')
    refused(['encode', '@gone.txt', '-o', 'fresh/', *MODEL], capsys, 'none of 2', 'gone.png')
    refused(['encode', '@no.txt', '-o', 'fresh/', *MODEL], capsys, 'no.txt')
    assert not (here/'fresh').exists()
    (here/'gone.txt').write_text('gone.png\nsome/00.png\n')
    code, _, err = call(['encode', '@gone.txt', '-o', 'fresh/', *MODEL], capsys)
    assert code == 0 and '1 of 2 files encoded, left out: gone.png: no such file' in err


def test_a_tar_without_webdataset(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'webdataset', None)
    refused(['encode', 'some.tar', *TO], capsys, "pip install 'instcomp[web]'")


CHANGES = {
    'model': lambda index: index.update(sha256='0'*64),
    'row': lambda index: index['shards'][0]['keys'].pop(),
    'path': lambda index: index['shards'][0].update(name='../codes-00000.safetensors'),
    'shard': lambda index: index['shards'].pop(0),
    'order': lambda index: index['shards'].reverse(),
    'hash': lambda index: index['shards'][2].update(sha256='a'*64),
    'bytes': lambda index: index['shards'][2].update(bytes=1),
    'format': lambda index: index.update(format=2),
    'type': lambda index: index.update(shards={'a': 1}),
    'none': lambda index: index.clear()}


@pytest.mark.parametrize('change', CHANGES)
def test_an_index_that_lies_is_refused(change, here, capsys):
    shutil.copytree(here/'known', here/'codes')
    (here/'out').mkdir()
    index = json.loads((here/'codes/index.json').read_text())
    CHANGES[change](index)
    (here/'codes/index.json').write_text(json.dumps(index))
    refused(['decode', 'codes', '-o', 'out', *MODEL], capsys, 'codes')
    assert not [*(here/'out').iterdir()]


def test_a_shard_that_is_another_is_refused(here, capsys):
    shutil.copytree(here/'known', here/'codes')
    for name in ('codes-00001.safetensors', 'codes-00003.safetensors'):
        data = bytearray((here/'codes'/name).read_bytes())
        data[-1] ^= 1
        (here/'codes'/name).write_bytes(data)
    refused(['decode', 'codes', '-o', '.', *MODEL], capsys, 'codes-00001', 'not the file')
    refused(['search', 'codes', 'some/00.png', *MODEL], capsys, 'codes-00001', 'not the file')


# ---- searched and scored
@pytest.mark.parametrize('model', ['run', 'photos-local'])
def test_a_picture_finds_itself_first(model, here, capsys, monkeypatch):
    "By numbers and by compressed bytes, in a folder and in one file."
    monkeypatch.setattr(builder, 'load', cache(builder.load))
    for out in ('codes/', 'one.safetensors'):
        words = ['--model', model, '--device', 'cpu']
        asked = ['some/00.png', 'some/deep/07.png']
        files = [*asked, 'some/03.png', 'some/deep/01.png']
        assert call(['encode', *files, '-o', out, *words], capsys)[0] == 0
        code, said, _ = call(['search', out, *asked, '--n', 3, '--json', *words], capsys)
        found = json.loads(said)
        assert code == 0 and [*found] == asked
        for file, near in found.items():
            assert len(near) == 3 and near[0][0] == 0 and near[0][1].split('/')[-1] == file.split('/')[-1]
            assert 0 < near[1][0] <= near[2][0]
    code, said, _ = call(['search', out, 'some/00.png', '--n', 1, *words], capsys)
    assert code == 0 and said.split() == ['some/00.png', '0', '00.png']


@pytest.mark.parametrize('word', ['@list.txt', 'some.tar', 'shards'])
def test_scored_on_lists_and_tars(word, here, capsys):
    "As on a folder whose held-out part they are."
    (here/'shards').mkdir()
    os.link(os.path.realpath(here/'some.tar'), here/'shards/some.tar')
    shutil.copytree(here/'some', here/'data/test')
    score = lambda data, n: call(['eval', 'run', '--data', data, '--n', n, '--json', '--out', 'out',
                                  '--overwrite', '--device', 'cpu'], capsys)
    (here/'out').mkdir()
    code, said, err = score(word, 100)
    found, known = json.loads(said), json.loads(score('data', 100)[1])
    assert code == 0 and found['n'] == known['n'] == N - 2 and '21.png' in err and '05.png' in err
    assert found['psnr'] == pytest.approx(known['psnr'], abs=1e-4) and word in found['protocol']
    assert json.loads(score(word, 4)[1])['n'] == 4
