"The site: every public name has its entry, every link leads somewhere, no page asks another host."
import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import pytest
from rooms import ROOT, modules
from sphinx.util.inventory import InventoryFile

import instcomp

pytestmark = pytest.mark.slow
LOADED = {'img': 'src', 'script': 'src', 'iframe': 'src', 'audio': 'src', 'video': 'src', 'source': 'src',
          'embed': 'src', 'object': 'data', 'link': 'href'}


class Page(HTMLParser):
    "What a page loads, where it leads to, the places in it, its text, and its text outside of code."
    def __init__(self, path):
        super().__init__()
        self.loads, self.leads, self.places, self.text, self.prose, self.code = [], [], set(), [], [], 0
        self.feed(path.read_text('utf-8'))

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        self.code += tag == 'pre'
        if said.get(LOADED.get(tag)): self.loads.append(said[LOADED[tag]])
        if tag == 'a' and said.get('href'): self.leads.append(said['href'])
        self.places |= {said[key] for key in ('id', 'name') if said.get(key)}

    def handle_endtag(self, tag): self.code -= tag == 'pre'

    def handle_data(self, data):
        self.text.append(data)
        if not self.code: self.prose.append(data)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "Built as `make docs` does: a warning is an error."
    out = tmp_path_factory.mktemp('site')/'html'
    done = subprocess.run([sys.executable, 'docs/build.py', out], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope='module')
def pages(site): return {path: Page(path) for path in sorted(site.rglob('*.html'))}


def public():
    "Full name of all that the modules list."
    for name, path in modules().items():
        for node in ast.parse(path.read_text('utf-8')).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__':
                yield from (f'instcomp.{name}.{word}' for word in ast.literal_eval(node.value))


def test_every_public_name_has_an_entry(site, pages):
    listed = InventoryFile.loads((site/'objects.inv').read_bytes(), uri='').data
    kinds = [some for kind, some in listed.items() if kind.startswith('py:')]
    entries = {name: item.uri for some in kinds for name, item in some.items()}
    names = [*public(), *(f'instcomp.{word}' for word in instcomp.FACE)]
    assert len(names) > 370 and [name for name in names if name not in entries] == []
    for name in names:
        path, place = urldefrag(entries[name])
        assert (place or name) in pages[site/path].places, name
        assert any(lead.endswith(f'{path}#{name}') for lead in pages[site/'genindex.html'].leads), name


def test_an_entry_says_what_it_takes(pages, site):
    text = ''.join(pages[site/'api'/'instcomp.seeds.html'].text)
    for said in ('seed_of', 'rank=0', 'the micro-step', 'an integer below 2**63', 'One well mixed seed'):
        assert said in text
    assert any('face/seeds.html#cell-' in lead for lead in pages[site/'api'/'instcomp.seeds.html'].leads)


def test_no_page_requests_another_host(site, pages):
    asked = {load for page in pages.values() for load in page.loads if re.match(r'(https?:)?//', load)}
    assert asked == set()
    for path in [*site.rglob('*.css'), *site.rglob('*.html')]:
        style = path.read_text('utf-8')
        assert not re.search(r'url\(["\']?(https?:)?//|@import\s+(url)?["\'(]+https?:', style), path


def test_every_link_leads_somewhere(site, pages):
    for path, page in pages.items():
        for link in [*page.leads, *page.loads]:
            if re.match(r'\w+:|//', link): continue
            file, place = urldefrag(link.split('?')[0] if '#' not in link else re.sub(r'\?[^#]*', '', link))
            target = (path.parent/unquote(file)).resolve() if file else path
            assert target.exists(), f'{path.name}: {link}'
            found = not place or target.suffix != '.html' or unquote(place) in pages[target].places
            assert found, f'{path.name}: {link}'


def test_mathematics_needs_no_script(pages):
    drawn = sum(path.read_text('utf-8').count('<math ') for path in pages)
    assert drawn > 500
    raw = re.compile(r'\\(frac|sum|sigma|omega|cdot|theta)\b|\$[a-zA-Z]\$')
    assert [path.name for path, page in pages.items() if raw.search(''.join(page.prose))] == []


def test_set_up_is_not_shown(pages):
    for path, page in pages.items():
        text = ''.join(page.text)
        assert '#| export' not in text and 'except ImportError:\n    import subprocess' not in text, path


def test_search_puts_definitions_first(site):
    ours = (ROOT/'docs'/'static'/'scorer.js').read_text('utf-8').splitlines()
    assert ours[2].strip() in (site/'_static'/'language_data.js').read_text('utf-8')
