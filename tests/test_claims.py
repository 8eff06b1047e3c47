"Every figure we quote is kept with the command that gives it."
import json

import pytest
from floors import ROOT

KEYS = {'value', 'command', 'seed', 'device', 'threads', 'commit'}
CLAIMS = sorted((ROOT/'benchmarks'/'claims').glob('*.json'))


@pytest.mark.parametrize('path', CLAIMS, ids=lambda path: path.stem)
def test_claims_say_where_they_come_from(path):
    for key, claim in json.loads(path.read_text('utf-8')).items():
        assert set(claim) >= KEYS, f'{key} lacks {sorted(KEYS - set(claim))}'
        assert isinstance(claim['value'], (int, float, str)) and claim['command'].strip(), key
