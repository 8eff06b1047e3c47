"A picture is told in words: a cell that draws begins with them, and the site hands them to the reader."
import importlib
import json
import re

import pytest
import torch
from rooms import ROOT

from instcomp.evaluation.plot import slider

CHAPTERS = [*sorted((ROOT/'nbs').glob('[0-9]*_*.ipynb')), ROOT/'nbs/index.ipynb']
ALT = re.compile(r'^#\| fig-alt: (.+)$', re.MULTILINE)


def cells(path): return json.loads(path.read_text('utf-8'))['cells']


def drawn(cell): return any('image/png' in out.get('data', {}) for out in cell.get('outputs', []))


@pytest.mark.parametrize('path', CHAPTERS, ids=lambda path: path.stem)
def test_pictures_have_words(path):
    told = {}
    for cell in filter(drawn, cells(path)):
        text = ''.join(cell['source'])
        words = told[cell['id']] = ' '.join(ALT.findall(text))
        assert len(words) >= 40, f'{cell["id"]}: begin with `#| fig-alt: what is to be seen`'
    assert told and len(set(told.values())) == len(told), 'two pictures are told in the same words'


def test_site_carries_the_words(monkeypatch):
    monkeypatch.syspath_prepend(ROOT/'docs')
    build = importlib.import_module('build')
    source = ['#| hide\n', '#| fig-alt: A cat,\n', '#| fig-alt: blurred.\n', 'show(cat)']
    folded, = build.shown(dict(cell_type='code', metadata={}, source=source))
    assert folded['metadata']['tags'] == ['hide-cell']
    assert folded['metadata']['mystnb'] == {'image': {'alt': 'A cat, blurred.'}}
    assert folded['source'] == 'show(cat)'


@pytest.mark.parametrize('path', CHAPTERS, ids=lambda path: path.stem)
def test_no_widget_is_saved(path):
    "A widget's view is an empty box wherever no kernel runs: the static picture before it is what is kept."
    for cell in cells(path):
        for out in cell.get('outputs', []):
            assert 'application/vnd.jupyter.widget-view+json' not in out.get('data', {}), cell['id']


def test_slider_changes_the_picture():
    "In a test, not in a notebook: running one would save the widget's state beside its cells."
    moved, picture = slider({'dark': torch.zeros(1, 4, 6), 'bright': torch.ones(1, 4, 6)}).children
    before, moved.value = picture.value, 'bright'
    assert picture.value != before and picture.value[1:4] == b'PNG'
