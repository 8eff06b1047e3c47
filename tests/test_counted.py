"What a chapter claims is borne by its code; tags survive cleaning; the index counts what stands there."
import json
import subprocess
import sys

import pytest
from install_cell import settings
from rooms import ROOT

from instcomp.course import borne, chapters, counted

TAGS = {'claim', 'claim-above', 'claim-measured'}


def tags(path):
    cells = json.loads(path.read_text('utf-8'))['cells']
    return {cell['id']: cell['metadata']['tags'] for cell in cells if cell['metadata'].get('tags')}


@pytest.mark.parametrize('path', chapters(), ids=lambda path: path.stem)
def test_no_claim_is_without_a_check(path):
    found = counted(path)
    assert found['missing'] == [], 'assert or draw it below, say it as a conjecture, or cut it'
    assert sum(found[kind] for kind in ('asserted', 'shown', 'measured')) >= 10
    assert found['checked'] >= 2 and found['exercises'] >= found['checked']


@pytest.mark.parametrize('path', chapters(), ids=lambda path: path.stem)
def test_the_minutes_at_the_top_are_those_to_read(path):
    found = counted(path)
    assert found['minutes'], 'say at the top how long reading takes: Time: 20 minutes'
    assert abs(found['minutes'] - found['reading']) <= 5, f'about {found["reading"]} minutes to read'


@pytest.mark.parametrize('path', chapters(), ids=lambda path: path.stem)
def test_only_known_tags(path): assert {tag for some in tags(path).values() for tag in some} <= TAGS


def test_a_claim_without_a_check_is_noticed(tmp_path):
    book = json.loads(chapters()[0].read_text('utf-8'))
    for cell in book['cells']:
        if cell['cell_type'] == 'code': cell['source'], cell['outputs'] = ['x = 1'], []
    (tmp_path/'a.ipynb').write_text(json.dumps(book), 'utf-8')
    assert set(counted(tmp_path/'a.ipynb')['missing']) == set(tags(chapters()[0]))


def test_cleaning_keeps_tags(tmp_path):
    assert 'tags' in settings()['allowed_cell_metadata_keys'].split()
    for name in ('settings.ini', 'pyproject.toml'): (tmp_path/name).write_bytes((ROOT/name).read_bytes())
    (tmp_path/'nbs').mkdir()
    copy = tmp_path/'nbs'/chapters()[0].name
    copy.write_bytes(chapters()[0].read_bytes())
    call = 'from nbdev.clean import nbdev_clean; nbdev_clean()'
    subprocess.run([sys.executable, '-c', call], cwd=tmp_path, check=True)
    assert tags(copy) == tags(chapters()[0]) != {}


def test_another_tag_is_refused():
    with pytest.raises(ValueError, match='claim-below: give claim'): borne([], 0, 'claim-below')


def test_index_shows_what_is_counted():
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text('utf-8'))['cells']
    table = next(''.join(out['data']['text/markdown']) for cell in cells for out in cell.get('outputs', [])
                 if 'text/markdown' in out.get('data', {}))
    for path in chapters():
        found, line = counted(path), next(row for row in table.splitlines() if path.name in row)
        shown = [part.strip() for part in line.strip('|').split('|')]
        kinds = [found[kind] for kind in ('asserted', 'shown', 'measured')]
        assert shown[3:7] == [str(n) for n in (*kinds, len(found['missing']))], 'execute nbs/index.ipynb'
