"""Where the package comes from is said once, in settings.ini; this writes it wherever a reader installs it.

    python tests/install_cell.py      the first cell of every notebook, and the README's line
"""
import json
import re
from configparser import ConfigParser

from rooms import ROOT, notebooks

CELL = """\
try: import instcomp
except ImportError:
    import subprocess
    import sys
    wanted = '{source}'
    if subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', wanted]).returncode:
        raise SystemExit(f'instcomp is not installed: pip could not get {{wanted}}; see above') from None
    import instcomp"""
LINE = re.compile(r'pip install "?instcomp[^`\n]*')


def settings():
    "The section of settings.ini."
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def install_cell(
    source,  # what pip is asked for
):           # str
    "The first cell of a notebook: installs the package where it is missing, or stops in one line."
    return CELL.format(source=source)


def install_line(
    source,  # what pip is asked for
):           # str
    "The same for a shell."
    return f'pip install "{source}"' if ' ' in source else f'pip install {source}'


def first_cell(
    book,  # a notebook, as JSON
):         # its first cell of code
    return next(cell for cell in book['cells'] if cell['cell_type'] == 'code')


def write(source):
    "Put cell and line into every notebook and the README; outputs and all else stay as they are."
    for path in notebooks().values():
        book = json.loads(path.read_text('utf-8'))
        first_cell(book)['source'] = install_cell(source).splitlines(keepends=True)
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + '\n', 'utf-8')
    readme = ROOT/'README.md'
    text = readme.read_text('utf-8')
    readme.write_text(LINE.sub(lambda found: install_line(source), text), 'utf-8')


if __name__ == '__main__': write(settings()['install'])
