"Every figure we quote is kept with the command that gives it, and still stands where it was read off."
import json
import re

import pytest
from floors import ROOT

KEYS = {'value', 'command', 'seed', 'device', 'threads', 'commit'}
CLAIMS = sorted((ROOT/'benchmarks'/'claims').glob('*.json'))
FILES = {path.stem: json.loads(path.read_text('utf-8')) for path in CLAIMS}
EVERY = {key: claim for claims in FILES.values() for key, claim in claims.items()}


@pytest.mark.parametrize('name', FILES)
def test_claims_say_where_they_come_from(name):
    for key, claim in FILES[name].items():
        assert set(claim) >= KEYS, f'{key} lacks {sorted(KEYS - set(claim))}'
        assert isinstance(claim['value'], (int, float, str)) and claim['command'].strip(), key
        for file in re.findall(r'(?:benchmarks|nbs)/\w+\.\w+', claim['command']):
            assert (ROOT/file).is_file(), f'{key}: {file} does not exist'


def test_a_key_is_used_once():
    assert len(EVERY) == sum(map(len, FILES.values()))


def read(text):
    "All numbers of a text, as values."
    return [float(word.replace(',', '')) for word in re.findall(r'\d[\d,]*(?:\.\d+)?', text)]


def said(notebook):
    "What the cells of an executed notebook printed or returned."
    cells = json.loads(notebook.read_text('utf-8'))['cells']
    outputs = [out for cell in cells for out in cell.get('outputs', [])]
    texts = [out.get('text') or out.get('data', {}).get('text/plain', []) for out in outputs]
    return '\n'.join(line for text in texts for line in text)


FROM_NOTEBOOKS = {key: ROOT/found[0] for key, claim in EVERY.items()
                  if (found := re.findall(r'nbconvert .*(nbs/\w+\.ipynb)', claim['command']))}


@pytest.mark.parametrize('notebook', sorted(set(FROM_NOTEBOOKS.values())), ids=lambda path: path.stem)
def test_notebook_still_says_what_is_claimed(notebook):
    "To 3 %: another processor may end a training a little elsewhere."
    found = read(said(notebook))
    for key in [key for key, path in FROM_NOTEBOOKS.items() if path == notebook]:
        for value in read(str(EVERY[key]['value'])):
            near = any(abs(x - value) <= .03*value for x in found)
            assert near, f'{key}: {notebook.name} no longer prints {value}'


def test_readme_quotes_claims_only():
    "Scores and ratios, in the table and in the text."
    quoted = re.findall(r'(\d+\.\d+)(?= dB| times| \|)', (ROOT/'README.md').read_text('utf-8'))
    kept = {f'{claim["value"]:.{digits}f}' for claim in EVERY.values() for digits in (1, 2)
            if isinstance(claim['value'], float)}
    assert quoted and set(quoted) <= kept, f'no claim gives {sorted(set(quoted) - kept)}'
