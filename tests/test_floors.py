import pytest
from floors import FLOOR, FLOORS, ROOT, modules, siblings


@pytest.mark.parametrize('name', modules())
def test_imports_only_from_lower_floors(name):
    assert name in FLOOR, f'{name} has no floor: give it one in tests/floors.py'
    for other in siblings(modules()[name]):
        assert FLOOR[other] < FLOOR[name], f'{name} may not import {other}, which is not on a lower floor'


def test_siblings_sees_every_form_of_import(tmp_path):
    names = list(modules())[:3]
    if len(names) < 3: pytest.skip('fewer than three modules')
    a, b, c = names
    lines = [f'from .{a} import x', 'def f():', f'  import instcomp.{b}', f'  from instcomp import {c}', '']
    (tmp_path/'m.py').write_text('\n'.join(lines))
    assert siblings(tmp_path/'m.py') == {a, b, c}


def test_readme_shows_the_same_floors():
    rows = {}
    for line in (ROOT/'README.md').read_text(encoding='utf-8').splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('|') and cells[0].isdigit(): rows.setdefault(int(cells[0]), []).extend(
            name.strip('` ') for name in cells[1].split(','))
    assert rows == dict(enumerate(FLOORS))


def test_no_star_imports():
    for name, path in modules().items(): assert 'import *' not in path.read_text(encoding='utf-8'), name
