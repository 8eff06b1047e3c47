"A scene of real photographs is fetched whole or not at all, from a stand-in on this disk; sliders."
import hashlib
import importlib
import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rooms import ROOT

from instcomp.data.synthetic_views import write_views

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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words): pass


@pytest.fixture
def served(script, tmp_path, monkeypatch):
    "A scene of nine small pictures behind an address of this machine, in the place of the fox."
    write_views(tmp_path, 'car', train=0, val=0, test=1, views=9, size=16)
    home = next((tmp_path/'cars').glob('*/transforms.json')).parent
    (home/'images').mkdir()
    meta, told = json.loads((home/'transforms.json').read_text('utf-8')), hashlib.sha256()
    for k, frame in enumerate(meta['frames']):
        (home/'images'/f'{k:04}.jpg').write_bytes((home/f'r_{k}.png').read_bytes())
        frame['file_path'] = f'images/{k:04}.jpg'
    (home/'transforms.json').write_text(json.dumps(meta), 'utf-8')
    for name in ['transforms.json', *(f'images/{k:04}.jpg' for k in range(9))]:
        told.update((home/name).read_bytes())
    monkeypatch.setattr(script, 'PICTURES', tuple(range(9)))
    monkeypatch.setattr(script, 'DIGEST', told.hexdigest())
    monkeypatch.setattr(script, 'data_home', lambda: tmp_path/'data')
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=home))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', home
    server.shutdown()
    server.server_close()


def run(script, monkeypatch, *words):
    "What `main` ends with, called with these words."
    monkeypatch.setattr(sys, 'argv', ['real_scene.py', *map(str, words)])
    try: script.main()
    except SystemExit as ended: return ended.code


@pytest.mark.slow
def test_the_command_fetches_fits_and_scores(script, served, tmp_path, monkeypatch, capsys):
    words = ['--source', served[0], '--steps', 2, '--side', 16, '--out', tmp_path/'found.json']
    assert run(script, monkeypatch, *words) is None
    found = json.loads((tmp_path/'found.json').read_text('utf-8'))
    assert {key.removeprefix('real_scene_') for key in found} == {'psnr', 'psnr_white', 'processor_seconds'}
    assert '2 held-out of 9 pictures' in capsys.readouterr().out
    assert len(list((tmp_path/'data/scenes/fox/images').iterdir())) == 9


@pytest.mark.parametrize('broken, says', [
    (lambda home: (home/'images/0004.jpg').unlink(), 'images/0004.jpg: not fetched (HTTP Error 404'),
    (lambda home: (home/'images/0004.jpg').write_bytes(b'other'), 'not the files that were measured')])
def test_a_scene_that_is_not_the_one_is_refused_in_a_line(script, served, tmp_path, monkeypatch, capsys,
                                                           broken, says):
    address, home = served
    broken(home)
    assert run(script, monkeypatch, '--source', address, '--out', tmp_path/'found.json') == 2
    said = capsys.readouterr().err
    assert says in said and said.count('\n') == 1
    assert not (tmp_path/'found.json').exists() and not list((tmp_path/'data/scenes').iterdir())


def test_no_network_and_no_folder_are_told_in_a_line(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, 'data_home', lambda: tmp_path/'data')
    assert run(script, monkeypatch, '--source', 'http://127.0.0.1:9') == 2
    assert run(script, monkeypatch, '--folder', tmp_path/'nowhere') == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and 'give --folder or --source' in lines[0] and 'nowhere' in lines[1]


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
