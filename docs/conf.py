"The site is nbs/ as it is: no page is written here. Build it with `make docs`."
import json
import re
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
html_static_path, html_css_files = ['static'], ['wide.css']
html_theme_options = {'source_repository': _ini['DEFAULT']['git_url'], 'source_branch': 'main',
                      'source_directory': 'nbs/', 'light_css_variables': {'code-font-size': '.75rem'}}
exclude_patterns = ['**.ipynb_checkpoints', '_proc', 'README.md']
ROOMS = ['fields', 'geometry', 'evaluation', 'models', 'data', 'training', 'tasks', 'experiments', 'face']
nb_code_prompt_show = 'Show set-up or solution'
ALT = re.compile(r'^#\| fig-alt: (.+)\n?', re.MULTILINE)
FOLDED = {'#| hide': 'hide-cell', '#| code-fold': 'hide-cell', '#| default_exp': 'remove-cell'}   # start: tag


def contents():
    "The table of contents: chapters by number, then the library room by room."
    parts = {'The course': (ROOT/'nbs').glob('[0-9]*.ipynb')}
    parts |= {f'The library: {room}': (ROOT/'nbs'/room).glob('*.ipynb') for room in ROOMS}
    for caption, paths in parts.items():
        names = '\n'.join(sorted(path.relative_to(ROOT/'nbs').with_suffix('').as_posix() for path in paths))
        if names: yield f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n'


def fold(cell):
    "Set-up and solutions stay closed until someone asks; the words of a picture go to its <img>."
    if cell['cell_type'] != 'code': return cell
    text, metadata = ''.join(cell['source']), dict(cell['metadata'])
    tags = [tag for start, tag in FOLDED.items() if text.startswith(start)]
    words = ' '.join(ALT.findall(text))
    if tags: metadata['tags'] = tags
    if words: metadata['mystnb'] = {'image': {'alt': words}}
    return {**cell, 'source': ALT.sub('', text).splitlines(keepends=True), 'metadata': metadata}


def prepare(app, name, text):
    "Folds cells, and gives the index its contents: a notebook reader would see them as raw text."
    book = json.loads(text[0])
    last = [{'cell_type': 'markdown', 'metadata': {}, 'source': part, 'id': f'contents{i}'}
            for i, part in enumerate(contents() if name == 'index' else [])]
    text[0] = json.dumps({**book, 'cells': [*map(fold, book['cells']), *last]})


def setup(app): app.connect('source-read', prepare)
