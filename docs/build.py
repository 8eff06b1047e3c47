"""The site: the notebooks of nbs/ as they are, and a page for each module of the library.

    python docs/build.py [FOLDER]      default: docs/_build/html

Sphinx reads a copy of the notebooks, in docs/_build/source: set-up and solutions folded, lines for nbdev and
install cells left out, nothing asked of another host. docs/names.py writes the pages of the reference.
"""
import json
import re
import sys
from pathlib import Path

import names
from sphinx.cmd.build import main

ROOT, BUILT = names.ROOT, names.ROOT/'docs'/'_build'
ROOMS = ['fields', 'geometry', 'evaluation', 'models', 'data', 'training', 'tasks', 'experiments', 'face']
BESIDE = ['files', 'glossary']
FOLDED = {'#| hide': 'hide-cell', '#| code-fold': 'hide-cell', '#| default_exp': 'remove-cell',
          'try: import instcomp\n': 'remove-cell'}                          # the start of a cell: its tag
BADGE = 'https://colab.research.google.com/assets/colab-badge.svg'
ALT = re.compile(r'^#\| fig-alt: (.+)\n?', re.M)
DISPLAY = re.compile(r'^\$\$[^$]+\$\$$', re.M)          # a formula on lines of its own, within a paragraph


def contents():
    "The table of contents: chapters by number, then the library room by room, then every name."
    parts = {'The course': (ROOT/'nbs').glob('[0-9]*.ipynb')}
    parts |= {'Beside the course': [ROOT/'nbs'/f'{name}.ipynb' for name in BESIDE]}
    parts |= {f'The library: {room}': (ROOT/'nbs'/room).glob('*.ipynb') for room in ROOMS}
    listed = {caption: sorted(path.relative_to(ROOT/'nbs').with_suffix('').as_posix() for path in paths)
              for caption, paths in parts.items()} | {'Every name': ['api/index']}
    for caption, pages in listed.items():
        lines = '\n'.join(pages)
        if pages: yield f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n'


def markdown(source, name): return dict(cell_type='markdown', metadata={}, source=source, id=name)


def shown(cell):
    """A cell as the site shows it: set-up and solutions folded, the words of a picture on its image; before
    an exported one stands the mark that the reference links to.
    """
    text = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':
        return [{**cell, 'source': DISPLAY.sub(r'\n\g<0>\n', text.replace(BADGE, '/images/colab.svg'))}]
    tags = [tag for start, tag in FOLDED.items() if text.startswith(start)]
    words = ' '.join(ALT.findall(text))
    metadata = cell['metadata'] | (dict(tags=tags) if tags else {})
    if words: metadata |= dict(mystnb=dict(image=dict(alt=words)))
    code = re.sub(r'\A(#\|.*\n?)+', '', text)
    mark = [markdown(f'<a id="cell-{cell["id"]}"></a>', f'mark-{cell["id"]}')] if '#| export' in text else []
    return [*mark, {**cell, 'metadata': metadata, 'source': code}]


def page(path):
    "The text of a notebook for the site; the index gets the table of contents."
    book = json.loads(path.read_text('utf-8'))
    cells = [part for cell in book['cells'] for part in shown(cell)]
    if path == ROOT/'nbs'/'index.ipynb':
        cells += [markdown(part, f'contents{i}') for i, part in enumerate(contents())]
    return json.dumps({**book, 'cells': cells})


def put(path, data):
    "Write what has changed only, so that Sphinx reads no page twice."
    if path.is_file() and path.read_bytes() == data: return path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def source(folder):
    "All that Sphinx reads, and nothing of an earlier time."
    books = [path for path in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts]
    kept = {put(folder/path.relative_to(ROOT/'nbs'), page(path).encode()) for path in books}
    kept |= {put(folder/'api'/name, text.encode()) for name, text in names.pages().items()}
    pictures = [*(ROOT/'nbs'/'images').iterdir(), ROOT/'docs'/'static'/'colab.svg']
    kept |= {put(folder/'images'/path.name, path.read_bytes()) for path in pictures}
    for path in folder.rglob('*'):
        if path.is_file() and path not in kept: path.unlink()


def build(
    out=BUILT/'html',  # where the site goes; what it is made of goes beside it
):                     # Sphinx's exit code: 0 if there is nothing to complain about
    out = Path(out)
    source(out.parent/'source')
    words = ['-W', '--keep-going', '-q', '-d', out.parent/'doctrees', '-c', ROOT/'docs']
    return main([str(word) for word in (*words, out.parent/'source', out)])


if __name__ == '__main__': sys.exit(build(*sys.argv[1:]))
