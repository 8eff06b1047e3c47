"A scene of real photographs is fetched whole or not at all, from a stand-in on this disk; sliders."
import hashlib
import importlib
import json
import subprocess

import pytest
from rooms import ROOT

SLIDERS = dict([('09_ipc', 2), ('11_meta', 1), ('16_locality', 1)])


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT/'benchmarks')
    return importlib.import_module('real_scene')


@pytest.fixture
def stand_in(tmp_path):
    "Where a scene is served from, and the digest of its files."
    home, told = tmp_path/'served', hashlib.sha256()
    (home/'images').mkdir(parents=True)
    for name, data in {'transforms.json': b'{"frames": []}', 'images/0003.jpg': b'one'}.items():
        (home/name).write_bytes(data)
        told.update(data)
    return home.as_uri(), told.hexdigest()


def test_a_scene_is_fetched_whole_and_once(script, stand_in, tmp_path):
    source, digest = stand_in
    scene = script.fetched(tmp_path/'data/fox', source, digest, [3])
    assert (scene/'images/0003.jpg').read_bytes() == b'one' and (scene/'transforms.json').is_file()
    assert script.fetched(tmp_path/'data/fox', 'file:///nowhere', '', []) == scene       # not fetched again
    assert [p.name for p in (tmp_path/'data').iterdir()] == ['fox']


@pytest.mark.parametrize('numbers, digest', [([3], 'another'), ([3, 4], None)])
def test_nothing_half_fetched_stays(script, stand_in, tmp_path, numbers, digest):
    with pytest.raises(OSError):
        script.fetched(tmp_path/'data/fox', stand_in[0], digest or stand_in[1], numbers)
    assert not list((tmp_path/'data').iterdir())


def test_the_scene_is_not_among_what_runs_by_itself():
    "It needs a network and holds a licence of its own: no workflow and no make target starts it."
    files = [ROOT/'Makefile', *(ROOT/'.github').rglob('*.yml')]
    assert not any('real_scene' in file.read_text('utf-8') for file in files)
    call = ['git', 'ls-files', 'nbs', 'data', 'benchmarks', 'instcomp']
    kept = subprocess.run(call, cwd=ROOT, capture_output=True, text=True).stdout
    assert '/fox/' not in kept
    names = json.loads((ROOT/'benchmarks/claims/real_scene.json').read_text('utf-8')).values()
    assert all('FOLDER' in claim['command'] for claim in names)      # what `origin.py` leaves out


@pytest.mark.parametrize('name', SLIDERS)
def test_a_picture_stands_before_each_slider(name):
    cells = json.loads((ROOT/f'nbs/{name}.ipynb').read_text('utf-8'))['cells']
    at = [k for k, cell in enumerate(cells) if cell['cell_type'] == 'code' and
          any(line.startswith('slider(') for line in cell['source'])]
    assert len(at) == SLIDERS[name]
    for k in at:
        assert not cells[k]['outputs'] and cells[k - 1]['cell_type'] == 'markdown'
        assert any('image/png' in out.get('data', {}) for out in cells[k - 2]['outputs'])
