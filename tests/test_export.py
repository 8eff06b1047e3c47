"What is committed is what the notebooks say: the library is their export, and their outputs are clean."
import json
import re
import shutil
import subprocess
import sys

import pytest
from rooms import ROOT, notebooks

NOTEBOOKS = notebooks()
BADGE = 'https://colab.research.google.com/github/instcomp/instcomp/blob/main/nbs/'
MACHINE_PATH = re.compile(r'(?<![\w.:/~])/(?:home|root|tmp|work|Users|private|mnt|content)/\w')
each = pytest.mark.parametrize('name, path', NOTEBOOKS.items(), ids=list(NOTEBOOKS))


def nbdev(folder, call):
    "Run one nbdev command in `folder`, a copy of the settings and the notebooks."
    module, function = call.split('.')
    code = f'from nbdev.{module} import {function}; {function}()'
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def library(folder):
    "Text of each module, in all rooms; nbdev's private index of links (_modidx.py) is ignored by git."
    paths = (folder/'instcomp').rglob('*.py')
    texts = {path.relative_to(folder/'instcomp').as_posix(): path.read_text('utf-8') for path in paths}
    return {name: text for name, text in texts.items() if name != '_modidx.py'}


@pytest.fixture
def copy(tmp_path):
    for name in ['settings.ini', 'pyproject.toml']: shutil.copy(ROOT/name, tmp_path)
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints', '_proc'))
    (tmp_path/'instcomp').mkdir()                   # the face is written by hand: the export carries it over
    shutil.copy(ROOT/'instcomp'/'__init__.py', tmp_path/'instcomp')
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
    fresh = notebooks(copy)
    dirty = [name for name, path in NOTEBOOKS.items() if path.read_bytes() != fresh[name].read_bytes()]
    assert dirty == [], 'run nbdev_clean'


def test_what_is_planted_in_a_room_is_noticed(copy):
    "A notebook in a room is exported and cleaned as one at the top; its module is no longer the kept one."
    book = json.loads(NOTEBOOKS['models/occupancy'].read_text('utf-8'))
    exported = next(cell for cell in book['cells'] if source(cell).startswith('#| export'))
    exported['source'] += ['\n', 'planted = 1']
    book['cells'][1] |= dict(execution_count=7)
    planted = copy/'nbs'/'models'/'occupancy.ipynb'
    planted.write_text(json.dumps(book))
    nbdev(copy, 'doclinks.nbdev_export')
    fresh, kept = library(copy), library(ROOT)
    assert [name for name in kept if kept[name] != fresh[name]] == ['models/occupancy.py']
    dirty = planted.read_bytes()
    nbdev(copy, 'clean.nbdev_clean')
    assert planted.read_bytes() != dirty


@each
def test_outputs_are_clean(name, path):
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
def test_notebook_is_executed(name, path):
    drawn = [cell for cell in cells(path, 'code') if re.search(r'^(print\(|plt\.show\()', source(cell), re.M)
             and 'NBVAL_SKIP' not in source(cell)]
    silent = [source(cell) for cell in drawn if not cell['outputs']]
    assert silent == [], 'a cell that prints or draws holds no output: execute the notebook'


@each
def test_notebook_opens_in_colab(name, path):
    assert f'{BADGE}{name}.ipynb' in ''.join(map(source, cells(path, 'markdown')[:3]))
    first = source(cells(path, 'code')[0])
    assert 'import instcomp' in first and "'pip', 'install" in first, 'the first code cell installs if needed'


@each
def test_links_lead_somewhere(name, path):
    "Links between notebooks and to pictures, as JupyterLab, Colab and the site follow them."
    text = '\n'.join(map(source, cells(path, 'markdown')))
    links = re.findall(r'\]\((?!https?:|#)([^)#\s]+)', text)
    assert [link for link in links if not (path.parent/link).exists()] == []


@each
def test_no_reading_time_in_the_docstring(name, path):
    "The quoted line of the first cell is the module's docstring: what is inside, by which conventions."
    quoted = [line for line in source(cells(path, 'markdown')[0]).splitlines() if line.startswith('> ')]
    if name == 'index': return
    assert len(quoted) == 1 and 'Time' not in quoted[0] and 'Read first' not in quoted[0]
