"Every figure we quote is kept with the command that gives it, and still stands where it was read off."
import json
import re

import pytest
from rooms import ROOT

KEYS = {'value', 'command', 'seed', 'device', 'threads', 'commit'}
CLAIMS = sorted((ROOT/'benchmarks'/'claims').glob('*.json'))
FILES = {path.stem: json.loads(path.read_text('utf-8')) for path in CLAIMS}
EVERY = {key: claim for claims in FILES.values() for key, claim in claims.items()}


@pytest.mark.parametrize('name', FILES)
def test_claims_say_where_they_come_from(name):
    for key, claim in FILES[name].items():
        assert set(claim) >= KEYS, f'{key} lacks {sorted(KEYS - set(claim))}'
        assert isinstance(claim['value'], (int, float, str)) and claim['command'].strip(), key
        for file in re.findall(r'(?:benchmarks|nbs)/[\w/]+\.\w+', claim['command']):
            assert (ROOT/file).is_file(), f'{key}: {file} does not exist'


def test_a_key_is_used_once():
    assert len(EVERY) == sum(map(len, FILES.values()))


def numbers(text):
    "All numbers of a text, as they are written there."
    return [word.replace(',', '') for word in re.findall(r'\d[\d,]*(?:\.\d+)?', text)]


def digits(word): return len(word.partition('.')[2])


def rounds(value, word):
    "Is a number this value, rounded to the digits that are written?"
    return f'{float(value):.{digits(word)}f}' == word


def said(notebook):
    "What the cells of an executed notebook printed or returned."
    cells = json.loads(notebook.read_text('utf-8'))['cells']
    outputs = [out for cell in cells for out in cell.get('outputs', [])]
    texts = [out.get('text') or out.get('data', {}).get('text/plain', []) for out in outputs]
    return '\n'.join(line for text in texts for line in text)


FROM_NOTEBOOKS = {key: ROOT/found[0] for key, claim in EVERY.items()
                  if (found := re.findall(r'nbconvert .*(nbs/[\w/]+\.ipynb)', claim['command']))}


@pytest.mark.parametrize('notebook', sorted(set(FROM_NOTEBOOKS.values())), ids=lambda path: path.stem)
def test_notebook_still_says_what_is_claimed(notebook):
    "To the last digit: who runs a notebook anew and ends elsewhere changes the claim and its quotations."
    printed = numbers(said(notebook))
    for key in [key for key, path in FROM_NOTEBOOKS.items() if path == notebook]:
        for word in numbers(str(EVERY[key]['value'])):
            there = any(digits(x) >= digits(word) and rounds(x, word) for x in printed)
            assert there, f'{key}: {notebook.name} no longer prints {word}'


def test_readme_quotes_claims_only():
    "Every number with a decimal point, but for versions, and every whole number of decibels or times."
    text = (ROOT/'README.md').read_text('utf-8')
    quoted = set(re.findall(r'(?<![\w.])(?<!Python )(\d[\d,]*\.\d+|\d[\d,]*(?= (?:dB|times)\b))', text))
    values = [claim['value'] for claim in EVERY.values() if isinstance(claim['value'], (int, float))]
    unknown = [word for word in quoted if not any(rounds(value, word.replace(',', '')) for value in values)]
    assert quoted and not unknown, f'no claim gives {sorted(unknown)}'


@pytest.mark.parametrize('value, word, same', [
    (24.349, '24.35', True), (24.349, '24.3', True), (24.351, '24.3', False), (24.349, '24.36', False)])
def test_a_quoted_figure_is_the_rounded_one(value, word, same): assert rounds(value, word) == same
