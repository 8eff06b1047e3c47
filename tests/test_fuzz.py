"The fuzz suite for a minute: fixed seeds of every kind in bounded workers; JSON and words by hypothesis."
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rooms import ROOT

from instcomp.experiments.catalog import PRESETS
from instcomp.files import read_json
from instcomp.schema import changes, resolve

KINDS = sorted(path.stem for path in (ROOT/'tests'/'fuzz').glob('*.py') if path.stem != 'harness')
N, SAMPLE = 200, 3                                                   # in-process; through the command


@pytest.fixture(scope='module')
def figures(tmp_path_factory):
    "What `make fuzz` writes, of a few inputs."
    out = tmp_path_factory.mktemp('fuzz')/'trust.json'
    words = ['tests/fuzz/harness.py', 'all', str(N), '--command', str(SAMPLE), '--out', str(out)]
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert out.is_file(), done.stderr
    return json.loads(out.read_text('utf-8'))


@pytest.mark.parametrize('kind', KINDS)
def test_inputs_of_every_kind(kind, figures):
    "None crashes, hangs, takes a gigabyte or says nothing; some are right and some are refused."
    found = figures[f'fuzz_{kind}']
    assert found['findings'] == [] and found['n'] == N and min(found['good'], found['refused']) > 0
    through = figures.get(f'fuzz_{kind}_command', dict(findings=[]))
    assert through['findings'] == []


# ---- structured inputs
FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=150)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(PLAIN, lambda some: st.lists(some, max_size=4) |
                    st.dictionaries(st.text(max_size=8), some, max_size=4), max_leaves=20)
ROW = resolve(PRESETS['image-ipc-tiny'])
PLACES = [key if not isinstance(part, dict) else f'{key}.{name}' for key, part in ROW.items()
          for name in (part if isinstance(part, dict) else [None])]


SETTING = st.builds('{}={}'.format, st.sampled_from(PLACES) | st.text(max_size=9),
                    st.text(max_size=20) | JSON.map(json.dumps))


def refused(call, *words):
    "The line of a `ValueError`; None where there is none."
    try: call(*words)
    except ValueError as error:
        said = str(error)
        assert said and '\n' not in said and len(said) < 1000 and said.isprintable(), said
        return said


@FIXED
@given(value=JSON)
def test_any_json_value_comes_back(value):
    "As JSON has it: what is no number is refused."
    text = json.dumps(value)
    if 'NaN' in text or 'Infinity' in text: return                   # a word of a text may say so, too
    assert read_json(text, 'x') == value


@FIXED
@given(text=st.text(max_size=60) | st.sampled_from('[{"').map(lambda c: c*9999) | st.binary(max_size=60))
def test_any_text_is_json_or_refused(text):
    said = refused(read_json, text, 'x.json')
    assert said is None or said.startswith('x.json: ')


@FIXED
@given(place=st.sampled_from(PLACES), value=JSON)
@example(place='train.lr', value=float('nan'))
def test_any_value_of_a_row(place, value):
    "Refused by a line with its key, or a row that stays as it is."
    key, _, name = place.partition('.')
    change = {key: {name: value} if name else value}
    said = refused(resolve, ROW, change)
    if said is None: assert resolve(resolve(ROW, change)) == resolve(ROW, change)
    else: assert name in said or key in said


@FIXED
@given(words=st.lists(st.text(max_size=30) | SETTING, max_size=4))
@example(words=['train.lr=' + '['*10**5])
def test_any_words_of_set(words):
    refused(lambda: resolve(ROW, changes(words)))


# ---- the harness itself
def fake(folder, body):
    "A kind of its own, in a copy of the harness."
    home = Path(folder)/'tests'/'fuzz'
    home.mkdir(parents=True)
    (home/'harness.py').write_text((ROOT/'tests'/'fuzz'/'harness.py').read_text('utf-8'), 'utf-8')
    head = 'import os, signal, time, numpy as np\nNAMED = True\n'
    head += 'def make(rng, folder):\n    path = folder/"x"\n    path.write_text(str(rng.integers(10)))\n'
    head += '    return path\n'
    (home/'fake.py').write_text(f'{head}def use(path):\n    n = int(path.read_text())\n{body}', 'utf-8')
    return home/'harness.py'


def test_the_harness_finds_each_kind_of_fault(tmp_path):
    body = '''
    if n == 0: raise KeyError('x')
    if n == 1: raise ValueError('x is bad\\nvery')
    if n == 2: raise ValueError('no name')
    if n == 3: os.kill(os.getpid(), signal.SIGSEGV)
    if n == 4: np.ones(3*2**27)
    if n == 5: raise FileNotFoundError(2, 'No such file', str(path))
    if n == 6: raise ValueError('x is bad')
'''
    out = tmp_path/'trust.json'
    words = [str(fake(tmp_path, body)), 'fake', '60', '--out', str(out)]
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    for _ in range(2):                                               # the second call has nothing left to do
        done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
    found = json.loads(out.read_text())['fuzz_fake']
    said = ' '.join(f['problem'] for f in found['findings'])
    for word in ['KeyError: "\'x\'"', 'not one line', 'no name', 'worker died: -11', 'MemoryError']:
        assert word in said, word
    assert found['n'] == 60 and found['good'] and found['refused']
    assert found['value'] + found['good'] + found['refused'] == 60
