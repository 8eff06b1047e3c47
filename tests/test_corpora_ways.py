"The way that codes are computed: chosen once, kept by the folder, by whoever goes on and by every process."
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from rooms import ROOT
from test_corpora import MODEL, SHARD, TO, N, call, contents, here, home, killed, refused  # noqa: F401

from instcomp.data.code_files import CodeFile
from instcomp.experiments import corpora
from instcomp.experiments.builder import load
from instcomp.tasks.base import Task
from instcomp.training.device import Way, fastest

HEADS = Way('bf16', 'heads')
SAID = dict(precision='bf16', attention='heads')


def index(folder): return json.loads((folder/'index.json').read_text())


def quick(monkeypatch, way, asked):
    "The clock says that a way is the fastest; `asked` gets what was timed."
    def chosen(found, timed): return asked.append(found) or fastest(found, lambda one: float(one != way))
    monkeypatch.setattr(corpora, 'fastest', chosen)


def test_an_index_names_its_way_and_the_usual_one_is_fp32(here):  # noqa: F811
    assert {key: index(here/'known')[key] for key in SAID} == dict(precision='fp32', attention=None)


def test_the_fastest_way_is_taken_kept_and_asked_again_by_search(here, capsys, monkeypatch):  # noqa: F811
    asked = []
    quick(monkeypatch, HEADS, asked)
    words = ['encode', 'some', *TO, '--precision', 'auto']
    killed(words, 8, (Task, 'encode_file'))                  # the child chose; its folder knows
    assert json.loads((here/'codes'/'.unfinished'/'job.json').read_text()).items() >= SAID.items()
    code, said, _ = call([*words, '--json'], capsys)
    assert code == 0 and not asked, 'it is chosen once'
    assert json.loads(said).items() >= SAID.items() and index(here/'codes').items() >= SAID.items()
    refused(['encode', 'some', *TO], capsys, 'precision (bf16, now fp32)', '--overwrite')
    assert call(['encode', 'some', '-o', 'whole/', *TO[2:], '--precision', 'auto'], capsys)[0] == 0
    assert asked == [[Way(p, road) for p in ('fp32', 'bf16') for road in ('kernel', 'heads')]]
    assert contents(here/'codes') == contents(here/'whole') != contents(here/'known')
    code, said, _ = call(['search', 'codes', 'some/00.png', '--n', 1, '--json', *MODEL], capsys)
    assert code == 0 and json.loads(said)['some/00.png'][0][0] == 0, 'computed the same way: at distance 0'


def test_a_folder_of_before_is_fp32(here, capsys):  # noqa: F811
    shutil.copytree(here/'known', here/'codes')
    old = {key: value for key, value in index(here/'codes').items() if key not in SAID}
    (here/'codes'/'index.json').write_text(json.dumps(old))
    assert call(['encode', 'some', *TO], capsys)[0] == 0
    refused(['encode', 'some', *TO, '--precision', 'bf16'], capsys, 'precision (fp32, now bf16)')


def test_numbers_in_a_file_are_single_precision(here, capsys):  # noqa: F811
    words = ['encode', 'some/00.png', '-o', 'a.safetensors', *MODEL, '--precision', 'bf16']
    assert call(words, capsys)[0] == 0
    code, _ = next(iter(CodeFile(here/'a.safetensors')))
    assert code.dtype == torch.float32


def test_bytes_are_made_in_fp32(here, capsys):  # noqa: F811
    model = load('photos-local', 'cpu')
    assert {way.precision for way in corpora.ways_of(model, 'auto')} == {'fp32'}
    words = ['encode', 'some/00.png', '-o', 'a.safetensors', '--model', 'photos-local', '--device', 'cpu']
    refused([*words, '--precision', 'bf16'], capsys, 'made in fp32', 'leave it out')
    refused(['encode', 'some', *TO, '--precision', 'fp8'], capsys, 'fp8', 'auto')
    assert not (here/'a.safetensors').exists()


@pytest.mark.parametrize('change', [dict(precision='fp8'), dict(attention='../x'), dict(precision=3)])
def test_a_way_that_nobody_knows_is_refused(here, capsys, change):  # noqa: F811
    shutil.copytree(here/'known', here/'codes')
    (here/'codes'/'index.json').write_text(json.dumps(index(here/'codes') | change))
    refused(['search', 'codes', 'some/00.png', *MODEL], capsys)


RANK = '''
import sys
from instcomp.cli import main
from instcomp.experiments import corpora
from instcomp.training.device import Way, rank_of
def chosen(found, timed):
    assert rank_of()[0] == 0, 'the first process chooses for all'
    return Way('bf16', 'heads')
corpora.fastest = chosen
sys.exit(main(sys.argv[1:]))
'''


@pytest.mark.slow
def test_two_processes_go_one_way(here, capsys):  # noqa: F811
    (here/'rank.py').write_text(RANK)
    words = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', 'rank.py']
    words += ['encode', 'some', *TO, '--precision', 'auto']
    done = subprocess.run(words, cwd=here, env=os.environ | dict(PYTHONPATH=str(ROOT)),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert index(here/'codes').items() >= SAID.items() and index(here/'codes')['signals'] == N - 2
