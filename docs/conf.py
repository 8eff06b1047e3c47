"The site is nbs/ as it is: no page is written here. Build it with `make docs`."
import json
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_ini = ConfigParser(delimiters=['='])
_ini.read(ROOT/'settings.ini', encoding='utf-8')

project, version = _ini['DEFAULT']['title'], _ini['DEFAULT']['version']
copyright, release = _ini['DEFAULT']['copyright'], version
extensions = ['myst_nb']
myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 3
nb_execution_mode = 'off'                          # the notebooks carry their outputs
html_theme = 'furo'
html_title = f'{project} {version}'
html_theme_options = {'source_repository': _ini['DEFAULT']['git_url'], 'source_branch': 'main',
                      'source_directory': 'nbs/'}
exclude_patterns = ['**.ipynb_checkpoints', '_proc', 'README.md']
PARTS = {'The course': '[0-9]*.ipynb', 'Appendices': 'A*.ipynb'}


def contents():
    "The table of contents: chapters by number, then the appendices."
    for caption, pattern in PARTS.items():
        names = '\n'.join(path.stem for path in sorted((ROOT/'nbs').glob(pattern)))
        if names: yield f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n'


def add_contents(app, name, text):
    "The index needs its contents here only: a notebook reader would see them as raw text."
    if name != 'index': return
    book = json.loads(text[0])
    cells = [{'cell_type': 'markdown', 'metadata': {}, 'source': part, 'id': f'contents{i}'}
             for i, part in enumerate(contents())]
    text[0] = json.dumps({**book, 'cells': book['cells'] + cells})


def setup(app): app.connect('source-read', add_contents)
