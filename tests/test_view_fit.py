"`instcomp view` of a fit's run: what its page holds, what is refused in one line."
import pytest
import torch
from test_view import CPU, here, parts, said  # noqa: F401  (a fixture)

from instcomp.cli import main
from instcomp.experiments.builder import build
from instcomp.experiments.catalog import row
from instcomp.models.plain import plain
from instcomp.tasks.page import turn_html

FACTS = dict(picture=dict(height=20, width=31), sound=dict(samples=500, rate=8000, mean=0., peak=.5))


def fit(kind, folder):
    "The run folder of a fit that has just begun."
    config = row(f'fit-{kind}')
    task = dict(name=config['task']['name'], **FACTS[kind])
    model = build(config | dict(task=task, inr=config['inr'] | dict(hidden=12)), 'cpu')
    model.save(folder)
    return model


@pytest.mark.parametrize('kind, size', [('picture', [20, 31]), ('sound', [500])])
def test_a_page_holds_the_network_and_no_code(here, capsys, kind, size):  # noqa: F811
    fit(kind, here/'mine')
    assert main(['view', 'mine', '-o', 'page.html', *CPU]) == 0, said(capsys)
    about, data = parts(here/'page.html')
    assert about['codes'] == [] and about['size'] == size and about['names'] == ['mine']
    assert about['kind'] == dict(picture='global', sound='sound')[kind]
    assert about['net']['waves']['type'] == 'f64' and about['net']['instance'] is None
    assert all(layer['W']['type'] == 'f32' for layer in about['net']['layers'])
    if kind == 'picture': assert about['tile'] == size and about['corners'] == [[0, 0]]


@pytest.mark.parametrize('words, clue', [
    ('mine a.png -o page.html', 'alone'), ('mine mine -o page.html', 'alone'),
    ('mine --model run -o page.html', 'its own model'), ('run -o page.html', '--model run'),
    ('mine -o mine/config.json', '.html'),
])
def test_one_line_for_a_fit_that_cannot_be_shown(here, capsys, words, clue):  # noqa: F811
    fit('picture', here/'mine')
    before = sorted(here.rglob('*'))
    assert main(['view', *words.split(), *CPU]) == 2
    line = said(capsys)
    assert clue in line and '\n' not in line and sorted(here.rglob('*')) == before


def test_what_no_page_runs():
    with pytest.raises(ValueError, match='a page'): plain(build('fit-shape', 'cpu'), None)
    large = torch.empty(1).expand(36, 1000, 1000, 3)
    with pytest.raises(ValueError, match='smaller'): turn_html(large, '', '')
