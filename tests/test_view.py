"`instcomp view` without a browser: what is on the page, what is refused, in one line."
import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch

from instcomp.cli import main
from instcomp.data.images import write_image
from instcomp.experiments.builder import build, load
from instcomp.models.plain import plain
from instcomp.tasks.page import page_html, show_page, signal_code

CPU = ['--device', 'cpu']


@pytest.fixture
def here(tmp_path, monkeypatch):
    "Two pictures of different size, a tiny run, and no other."
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, shape in [('a.png', (3, 20, 24)), ('b.png', (3, 30, 30))]:
        write_image(torch.from_numpy(rng.random(shape)).float(), tmp_path/name)
    torch.manual_seed(0)
    build('image-local-tiny', 'cpu').save(tmp_path/'run')
    return tmp_path


def said(capsys): return capsys.readouterr().err.strip()


def parts(path):
    "The description in a page, and the bytes that it speaks of."
    text = path.read_text('utf-8')
    about = re.search(r'<script type="application/json" id="about">(.*?)</script>', text, re.S)[1]
    data = re.search(r'<script type="text/plain" id="data">(.*?)</script>', text, re.S)[1]
    return json.loads(about), zlib.decompress(base64.b64decode(data))


def test_a_page_holds_the_code_and_asks_nobody(here, capsys):
    assert main(['view', 'a.png', 'b.png', '--model', 'run', '-o', 'page.html', *CPU]) == 0, said(capsys)
    about, data = parts(here/'page.html')
    assert about['names'] == ['a.png', 'b.png'] and about['size'] == [20, 24]     # the second fits the first
    for code in about['codes']:
        z = code['z']
        assert code['shape'] == [3, 20, 24] and z['type'] == 'u8' and z['at'] + z['n'] <= len(data)
    text = (here/'page.html').read_text('utf-8')
    assert "default-src 'none'" in text and not re.search(r'(src|href)="(?!data:)', text)
    assert not re.search(r'https?:|//\w+\.\w+/|\bfetch\(|XMLHttpRequest|\bimport\(', text)


def test_codes_are_shown_by_their_maker(here, capsys):
    assert main(['encode', 'a.png', 'b.png', '--model', 'image-cavia', '-o', 'c.safetensors', *CPU]) == 0
    capsys.readouterr()
    assert main(['view', 'c.safetensors', '-o', 'c.html', *CPU]) == 2           # 20 x 24 and 30 x 30
    assert 'of one size' in said(capsys) and not (here/'c.html').exists()
    assert main(['encode', 'a.png', '--model', 'image-cavia', '-o', 'd.safetensors', *CPU]) == 0
    capsys.readouterr()
    assert main(['view', 'd.safetensors', '-o', 'd.html', *CPU]) == 0
    assert parts(here/'d.html')[0]['kind'] == 'global'
    assert main(['view', *['a.png']*3, '--model', 'run', '-o', 'e.html', *CPU]) == 0
    assert said(capsys) == 'instcomp: 3 signals given, the first 2 are on the page'


@pytest.mark.parametrize('words, clue', [
    ('a.png --model run -o page.txt', '.html'), ('missing.png --model run -o page.html', 'missing.png'),
    ('a.png --model voices-ipc -o page.html', 'two coordinates'),
    ('a.png --model nobody -o page.html', 'nobody'),
    ('a.png --model inrgan-tiny -o page.html', 'local models and IPC'),
    ('a.png --model run -o a.png', '.html'),
    ('a.png --model cars-ipc -o page.html', 'local models and IPC'),
    ('run/model.safetensors --model run -o page.html', 'model.safetensors'),
    ('a.png --model run -o old.html', 'old'),
    ('run -o page.html', '--model run'),
])
def test_one_line_for_what_cannot_be_shown(here, capsys, words, clue):
    (here/'old.html').write_text('mine')
    before = sorted(here.rglob('*'))
    assert main(['view', *words.split(), *CPU]) == 2
    line = said(capsys)
    assert clue in line and '\n' not in line and line.startswith('instcomp:')
    assert sorted(here.rglob('*')) == before and (here/'old.html').read_text() == 'mine'


def test_overwrite_and_names_that_are_no_html(here):
    model, evil = load('run', 'cpu'), '<script>alert(1)</script>&"'
    (here/'old.html').write_text('mine')
    assert main(['view', 'a.png', '--model', 'run', '-o', 'old.html', '--overwrite', *CPU]) == 0
    text = page_html(model, [signal_code(model, torch.rand(3, 8, 8), evil)])
    assert '<script>alert' not in text and '&lt;script&gt;alert' in text
    assert '<script>' not in show_page(text).data


def test_other_models_are_refused_by_name():
    for preset in ('image-transinr-tiny', 'nvs-ipc-tiny-cars'):
        with pytest.raises(ValueError, match='a page'): plain(build(preset, 'cpu'), None)
