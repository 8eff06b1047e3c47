"What is committed is what the notebooks say: the library is their export, and their outputs are clean."
import json
import re
import shutil
import subprocess
import sys

import pytest
from floors import ROOT

NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
BADGE = 'https://colab.research.google.com/github/instcomp/instcomp/blob/main/nbs/'
MACHINE_PATH = re.compile(r'(?<![\w.:/~])/(?:home|root|tmp|work|Users|private|mnt|content)/\w')
each = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)


def nbdev(folder, call):
    "Run one nbdev command in `folder`, a copy of the settings and the notebooks."
    module, function = call.split('.')
    code = f'from nbdev.{module} import {function}; {function}()'
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def library(folder):
    "Text of each module; nbdev's private index of links (_modidx.py) is ignored by git."
    paths = (folder/'instcomp').glob('*.py')
    return {path.name: path.read_text('utf-8') for path in paths if path.name != '_modidx.py'}


@pytest.fixture
def copy(tmp_path):
    for name in ['settings.ini', 'pyproject.toml']: shutil.copy(ROOT/name, tmp_path)
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints', '_proc'))
    return tmp_path


def source(cell): return ''.join(cell['source'])


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text('utf-8'))['cells'] if cell['cell_type'] == kind]


@pytest.mark.skipif(not NOTEBOOKS, reason='no notebooks')
def test_library_is_the_export_of_the_notebooks(copy):
    nbdev(copy, 'doclinks.nbdev_export')
    fresh, kept = library(copy), library(ROOT)
    assert sorted(fresh) == sorted(kept), 'run nbdev_export; a module without a notebook does not belong here'
    stale = [name for name in kept if kept[name] != fresh[name]]
    assert stale == [], f'edited by hand or not exported: run nbdev_export ({", ".join(stale)})'


@pytest.mark.skipif(not NOTEBOOKS, reason='no notebooks')
def test_cleaning_changes_nothing(copy):
    nbdev(copy, 'clean.nbdev_clean')
    dirty = [path.name for path in NOTEBOOKS if (copy/'nbs'/path.name).read_bytes() != path.read_bytes()]
    assert dirty == [], 'run nbdev_clean'


@each
def test_outputs_are_clean(path):
    book = json.loads(path.read_text('utf-8'))
    outputs = [output for cell in cells(path, 'code') for output in cell['outputs']]
    assert 'widgets' not in book['metadata'], 'metadata.widgets keeps the page from rendering'
    assert book['metadata']['kernelspec']['name'] == 'python3'
    assert not [output for output in outputs if output['output_type'] == 'error']
    assert not [output['text'] for output in outputs if output.get('name') == 'stderr']
    assert len(json.dumps(outputs)) < 1_000_000, 'outputs of 1 MB or more'
    text = [json.dumps({**output, 'data': {kind: value for kind, value in output.get('data', {}).items()
                                           if kind.startswith('text/')}}) for output in outputs]
    assert not MACHINE_PATH.search('\n'.join(text)), 'a path of one machine'


@each
def test_notebook_is_executed(path):
    drawn = [cell for cell in cells(path, 'code') if re.search(r'^(print\(|plt\.show\()', source(cell), re.M)
             and 'NBVAL_SKIP' not in source(cell)]
    silent = [source(cell) for cell in drawn if not cell['outputs']]
    assert silent == [], 'a cell that prints or draws holds no output: execute the notebook'


@each
def test_notebook_opens_in_colab(path):
    assert f'{BADGE}{path.name}' in ''.join(map(source, cells(path, 'markdown')[:3]))
    first = source(cells(path, 'code')[0])
    assert 'import instcomp' in first and "'pip', 'install" in first, 'the first code cell installs if needed'
