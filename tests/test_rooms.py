"Imports go one way, room by room; the face is lazy; a stranger planted in a room is noticed."
import itertools
import re
import shutil
import subprocess
import sys

import pytest
from rooms import ORDER, ROOMS, ROOT, TABLE, imported, modules, notebooks, upward

FACE = ['load', 'build', 'presets', 'grid', 'psnr', 'GINR']


def python(code):
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('name', modules())
def test_imports_only_from_what_stands_before(name):
    assert name in ORDER, f'{name} has no place: give it one in tests/rooms.py'
    assert upward(name) == [], f'{name} imports what does not stand before it in tests/rooms.py'


def test_every_place_is_taken(): assert set(TABLE) == set(modules())


def test_every_form_of_import_is_seen(tmp_path):
    shutil.copytree(ROOT/'instcomp', tmp_path/'instcomp')
    lines = ['from ..fields.coords import grid', 'from . import plot', 'from .. import files', 'def f():',
             '  import instcomp.seeds', '  from instcomp.fields import inr', '  from instcomp import cli', '']
    path = tmp_path/'instcomp'/'evaluation'/'metrics.py'
    path.write_text('\n'.join(lines))
    seen = {'fields.coords', 'evaluation.plot', 'files', 'seeds', 'fields.inr', 'cli'}
    assert imported(path, tmp_path) == seen
    assert upward('evaluation.metrics', tmp_path) == ['cli', 'evaluation.plot']


def test_a_planted_module_has_no_place(tmp_path):
    (tmp_path/'instcomp'/'models').mkdir(parents=True)
    (tmp_path/'instcomp'/'models'/'stranger.py').write_text('from ..cli import main\n')
    assert set(modules(tmp_path)) - set(ORDER) == {'models.stranger'}


def test_readme_shows_the_same_rooms():
    rows = {}
    for line in (ROOT/'README.md').read_text(encoding='utf-8').splitlines():
        cells = [cell.strip(' `') for cell in line.strip('|').split('|')]
        link = re.search(r'\(nbs/([\w/]+)\.ipynb\)', line)
        if line.startswith('| `') and link and cells[0] in [*ORDER]: rows[cells[0]] = link[1]
    assert list(rows) == TABLE, 'the map in README.md shows another order'
    assert set(rows.values()) <= set(notebooks())
    for name, path in rows.items():
        text = notebooks()[path].read_text('utf-8')
        assert f'#| default_exp {name}"' in text, f'{path} does not export {name}'


def test_no_star_imports():
    for name, path in modules().items(): assert 'import *' not in path.read_text(encoding='utf-8'), name


def test_nothing_is_named_as_the_face():
    parts = set(itertools.chain.from_iterable(name.split('.') for name in modules())) | set(ROOMS)
    assert not parts & set(FACE), 'Python would hand out the module in place of the function'


@pytest.mark.parametrize('face_first', [True, False])
def test_the_face_in_both_orders(face_first):
    "The names are functions, whether every module is imported before them or after."
    face = f'from instcomp import {", ".join(FACE)}'
    every = '\n'.join(f'import instcomp.{name}' for name in modules())
    lines = [face, every] if face_first else [every, face]
    check = f'import types\nassert not any(isinstance(v, types.ModuleType) for v in [{", ".join(FACE)}])'
    python('\n'.join([*lines, check, 'import instcomp.fields.coords as c', 'assert grid is c.grid']))


def test_the_face_refuses_other_names():
    with pytest.raises(ImportError): exec('from instcomp import walk')
    said = python('import sys, instcomp; print("torch" in sys.modules, "grid" in dir(instcomp))')
    assert said == 'False True\n'


@pytest.mark.parametrize('words', [['--help'], ['--version'], ['train', '--help'], ['version']])
def test_help_and_version_import_no_torch(words):
    code = f'import sys; from instcomp.cli import main; code = main({words})'
    assert python(f'{code}; print(code, "torch" in sys.modules)').splitlines()[-1] == '0 False'
