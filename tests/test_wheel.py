"""sdist -> wheel -> clean environment -> everything works outside the checkout, without a network.

README_TO_THE_LETTER=1 also trains as long as the README's line does, which takes minutes; INSTCOMP_WHEEL=FILE
takes a wheel that is built (its sdist beside it); WHOLE_COURSE=1 runs every notebook from top to bottom
outside the checkout, which takes as long as `make test`. The release workflow does all three.
"""
import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from install_cell import first_cell, install_cell, install_line, settings
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rooms import ROOT, modules, notebooks

WEIGHTS = sorted(path.parent.name for path in ROOT.glob('data/weights/*/config.json'))
README = (ROOT/'README.md').read_text('utf-8')
SOURCE = settings()['install']
THREE = ['01_coords', '09_ipc', 'face/cli']              # whose first cells are run
# Whose cells that read tables need nothing else.
TABLES = ['11_meta', '12_image', '13_audio', '14_render', '15_nvs', '16_locality', '17_scale']
slow = pytest.mark.slow


def environment(**more):
    "Nothing of this checkout, no index, no settings of pip: only what is given."
    hidden = ('PYTHONPATH', 'PIP_', 'JUPYTER_')
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    offline = dict(HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1', PIP_NO_INDEX='1', PIP_CONFIG_FILE=os.devnull,
                   PIP_DISABLE_PIP_VERSION_CHECK='1', MPLBACKEND='agg')
    return kept | offline | more


def call(*command, cwd, **more):
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment(**more),
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
    return done.stdout


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    "The files of the working tree that git tracks or would track, so that building leaves no trace in it."
    folder = tmp_path_factory.mktemp('checkout')
    listed = call('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=ROOT).split('\0')
    for name in filter(None, listed):
        if not (ROOT/name).is_file(): continue
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes((ROOT/name).read_bytes())
    return folder


@pytest.fixture(scope='module')
def wheel(checkout):
    "`build` makes the sdist first and the wheel from the sdist, never from the checkout."
    given = os.environ.get('INSTCOMP_WHEEL')
    if given: return Path(given).resolve()
    call(sys.executable, '-m', 'build', '--no-isolation', '--outdir', 'dist', '.', cwd=checkout)
    return next((checkout/'dist').glob('*.whl'))


@pytest.fixture(scope='module')
def dependencies(tmp_path_factory):
    "Links to all that is installed here, but for the package itself."
    folder = tmp_path_factory.mktemp('dependencies')
    for path in {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}:
        for entry in Path(path).iterdir():
            ours = entry.name.startswith(('instcomp', '__editable__'))
            if not ours and entry.suffix != '.pth': (folder/entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope='module')
def fresh(dependencies, tmp_path_factory):
    "Makes environments that hold the dependencies and nothing else; their Python."
    def make():
        folder = tmp_path_factory.mktemp('clean')/'env'
        call(sys.executable, '-m', 'venv', '--without-pip', folder, cwd=folder.parent)
        python = folder/('Scripts' if os.name == 'nt' else 'bin')/'python'
        ask = 'import sysconfig; print(sysconfig.get_path("purelib"))'
        Path(call(python, '-c', ask, cwd=folder).strip(), 'dependencies.pth').write_text(f'{dependencies}\n')
        return python
    return make


@pytest.fixture(scope='module')
def clean(wheel, fresh):
    "An environment that holds the wheel. Its Python."
    python = fresh()
    call(python, '-m', 'pip', 'install', '-q', '--no-deps', wheel, cwd=python.parent)
    return python


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    "Runs cells, one after the other, in a kernel of an environment: the notebook with its outputs."
    def run(python, sources, **more):
        spec = tmp_path/'jupyter'/'kernels'/'clean'
        spec.mkdir(parents=True, exist_ok=True)
        argv = [str(python), '-m', 'ipykernel_launcher', '-f', '{connection_file}']
        (spec/'kernel.json').write_text(json.dumps(dict(argv=argv, display_name='clean', language='python')))
        monkeypatch.setenv('JUPYTER_PATH', str(tmp_path/'jupyter'))
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        client = NotebookClient(book, kernel_name='clean', timeout=300,
                                resources=dict(metadata=dict(path=str(tmp_path))))
        try: client.execute(env=environment(**more))
        except CellExecutionError: pass
        return book
    return run


def printed(cell): return ''.join(out['text'] for out in cell.outputs if out.get('name') == 'stdout')


def code_cells(name):
    "Sources and saved text of a notebook's cells of code."
    book = json.loads(notebooks()[name].read_text('utf-8'))
    for cell in book['cells']:
        if cell['cell_type'] == 'code':
            texts = [''.join(out['text']) for out in cell['outputs'] if out.get('name') == 'stdout']
            yield ''.join(cell['source']), ''.join(texts)


# What is said once, and what everything needs

@pytest.mark.parametrize('name', notebooks())
def test_first_cell_is_what_the_settings_say(name):
    cell = first_cell(json.loads(notebooks()[name].read_text('utf-8')))
    assert ''.join(cell['source']) == install_cell(SOURCE), 'run python tests/install_cell.py'


def test_readme_installs_from_there():
    assert set(re.findall(r'`(pip install [^`]*)`', README)) == {install_line(SOURCE)}
    assert 'pip install instcomp' not in README


def test_cell_and_line_follow_the_settings():
    assert install_line('instcomp') == 'pip install instcomp'
    assert "wanted = 'instcomp'\n" in install_cell('instcomp')


def test_what_is_imported_is_declared():
    "Every package that the library imports, wherever, stands among the requirements or the extras."
    names = {'skimage': 'scikit-image', 'PIL': 'pillow', 'IPython': 'ipykernel'}
    said = ' '.join(value for key, value in settings().items() if key.endswith('requirements'))
    declared = {re.split(r'[\[<>=]', word)[0].replace('-', '_') for word in said.split()}
    seen = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.Import): seen |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level: seen.add(node.module.split('.')[0])
    seen = {names.get(name, name).replace('-', '_') for name in seen - set(sys.stdlib_module_names)}
    assert seen - {'instcomp'} <= declared
    assert {'gdown', 'torchmetrics'} <= declared         # torchvision wants the one, FID the other


def test_no_notebook_reads_beside_itself():
    "What a cell reads is in the package, so the course runs wherever it lies."
    for name in notebooks():
        for source, _ in code_cells(name):
            if source.startswith('#| export'): continue
            assert not re.search(r'''Path\(['"](\.\.|benchmarks|images|data)\b''', source), name
            for table in re.findall(r"measured\('([^']+)'\)", source):
                assert (ROOT/'benchmarks'/table).is_file() or table == 'nothing.json', f'{name}: {table}'


def test_citation_says_what_the_settings_say():
    text = (ROOT/'CITATION.cff').read_text('utf-8')
    for key in ('version', 'author', 'git_url'): assert settings()[key] in text


# The files

@slow
def test_sdist_holds_the_rooms_and_no_tests(wheel):
    names = tarfile.open(next(wheel.parent.glob('*.tar.gz'))).getnames()
    inside = {name.split('/', 1)[-1] for name in names}
    assert {f'instcomp/{name.replace(".", "/")}.py' for name in modules()} <= inside
    assert not [name for name in inside if name.startswith('tests')]     # they need notebooks and benchmarks


@slow
def test_wheel_holds_weights_and_course_and_is_small(wheel):
    held = zipfile.ZipFile(wheel)
    names = set(held.namelist())
    assert {f'instcomp/{name.replace(".", "/")}.py' for name in ('__init__', *modules())} <= names
    assert 'instcomp/py.typed' in names
    assert {f'instcomp/tasks/web/{path.name}' for path in (ROOT/'instcomp'/'tasks'/'web').iterdir()} <= names
    for name in WEIGHTS:
        for file in ['config.json', 'model.safetensors', 'recipe.json']:
            assert f'instcomp/weights/{name}/{file}' in names
        assert (ROOT/'data'/'weights'/name/'model.safetensors').stat().st_size <= 10e6
    for name, path in notebooks().items():
        assert held.read(f'instcomp/notebooks/{name}.ipynb') == path.read_bytes()
    for path in [*ROOT.glob('benchmarks/*.json'), *ROOT.glob('benchmarks/claims/*.json')]:
        name = path.relative_to(ROOT/'benchmarks').as_posix()
        assert held.read(f'instcomp/measured/{name}') == path.read_bytes()
    assert wheel.stat().st_size <= 50e6


@slow
def test_description_has_no_relative_link(wheel):
    held = zipfile.ZipFile(wheel)
    text = held.read(next(name for name in held.namelist() if name.endswith('METADATA'))).decode()
    assert re.findall(r'\]\((?!https?:|#)[^)]*', text) == []
    assert f'{settings()["git_url"]}/raw/main/nbs/images/enlarged.png' in text
    for kind in ('Documentation', 'Source', 'Issues'): assert f'Project-URL: {kind}, https' in text
    for version in settings()['pythons'].split(): assert f'Python :: {version}\n' in text


# The package in an environment of its own

@slow
def test_installed_package_is_the_wheel(clean, tmp_path):
    where = call(clean, '-c', 'import instcomp; print(instcomp.__file__)', cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(clean.parents[1])
    show = 'import importlib.metadata as m, instcomp; print(m.version("instcomp"), instcomp.__version__)'
    metadata, attribute = call(clean, '-c', show, cwd=tmp_path).split()
    assert metadata == attribute == settings()['version']


@slow
def test_the_course_is_copied_from_the_wheel(clean, tmp_path):
    said = call(clean.parent/'instcomp', 'notebooks', 'course', cwd=tmp_path)
    assert said.startswith(f'{len(notebooks())} notebooks in course')
    for name, path in notebooks().items():
        assert (tmp_path/'course'/f'{name}.ipynb').read_bytes() == path.read_bytes()
    for path in ROOT.glob('nbs/images/*'): assert (tmp_path/'course'/'images'/path.name).is_file()


@slow
@pytest.mark.parametrize('name', TABLES)
def test_tables_give_what_was_saved(clean, kernel, name):
    "A chapter's cells that read measured tables say outside the checkout what they say inside."
    cells = list(code_cells(name))
    needed = re.compile(r'try: import instcomp|#\| (hide|export)\n(import|from) |.*\bmeasured\(\'', re.S)
    chosen = [(source, text) for source, text in cells if needed.match(source)]
    book = kernel(clean, [source for source, _ in chosen])
    for cell, (source, text) in zip(book.cells, chosen):
        assert [out for out in cell.outputs if out.output_type == 'error'] == []
        if 'measured(' in source: assert printed(cell) == text != ''


NUMBER = re.compile(r'[-+−]?\d[\d.,]*(e[-+]?\d+)?|\b(inf|nan)\b')


def words(cell):
    "What a cell printed, with # for each number, and how many pictures it drew."
    text = ''.join(''.join(out['text']) for out in cell.outputs if out.get('name') == 'stdout')
    pictures = sum('image/png' in out.get('data', {}) for out in cell.outputs)
    return ' '.join(NUMBER.sub('#', text).split()), pictures


@pytest.fixture(scope='module')
def course(clean, tmp_path_factory):
    "The wheel's own copy of the notebooks."
    folder = tmp_path_factory.mktemp('copied')
    call(clean.parent/'instcomp', 'notebooks', 'course', cwd=folder)
    return folder/'course'


@slow
@pytest.mark.skipif('WHOLE_COURSE' not in os.environ, reason='minutes: WHOLE_COURSE=1')
@pytest.mark.parametrize('name', notebooks())
def test_every_notebook_outside_the_checkout(clean, course, kernel, name):
    "The wheel's own copy in an empty folder: no error, the saved words, as many pictures. Numbers may vary."
    saved = nbformat.read(course/f'{name}.ipynb', as_version=4)
    cells = [cell for cell in saved.cells if cell.cell_type == 'code' and 'NBVAL_SKIP' not in cell.source]
    book = kernel(clean, [cell.source for cell in cells], MPLBACKEND='module://matplotlib_inline.backend_inline')
    for new, old in zip(book.cells, cells):
        assert [out for out in new.outputs if out.output_type == 'error'] == [], old.source
        assert words(new) == words(old), old.source


# The first cell

@slow
@pytest.mark.parametrize('name', THREE)
def test_first_cell_installs_a_wheel_that_is_served(wheel, fresh, kernel, name):
    "As it will be when an index has the package: here a folder is the index."
    cell = next(code_cells(name))[0].replace(SOURCE, 'instcomp')
    book = kernel(fresh(), [cell, 'print(instcomp.__file__)'], PIP_FIND_LINKS=str(wheel.parent))
    assert book.cells[0].outputs == []
    assert Path(printed(book.cells[1]).strip()).parts[-3:] == ('site-packages', 'instcomp', '__init__.py')


@slow
@pytest.mark.skipif('git+' not in SOURCE, reason='settings.ini does not install from git')
def test_first_cell_to_the_letter(checkout, fresh, kernel, tmp_path):
    "The repository is here instead of there: git is told so, the cell is as it is saved."
    for words in ('init -q -b main', 'add .', '-c user.name=a -c user.email=a@b commit -qm all'):
        call('git', *words.split(), cwd=checkout)
    there = SOURCE.split('git+')[1]
    moved = dict(GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0=f'url.{checkout.as_uri()}.insteadOf',
                 GIT_CONFIG_VALUE_0=there, PIP_NO_BUILD_ISOLATION='0')
    book = kernel(fresh(), [next(code_cells(THREE[0]))[0], 'print(instcomp.__version__)'], **moved)
    assert printed(book.cells[1]).strip() == settings()['version'], book.cells[0].outputs


@slow
@pytest.mark.parametrize('name', THREE)
def test_first_cell_stops_the_notebook_in_one_line(fresh, kernel, tmp_path, name):
    "Nothing is served: the next cell is not run, and the last line says what is wrong."
    nowhere = dict(GIT_CONFIG_COUNT='1', GIT_CONFIG_VALUE_0='https://',
                   GIT_CONFIG_KEY_0=f'url.{(tmp_path/"nowhere").as_uri()}/.insteadOf')
    book = kernel(fresh(), [next(code_cells(name))[0], 'print("went on")'], **nowhere)
    error, = (out for out in book.cells[0].outputs if out.output_type == 'error')
    assert error.ename == 'SystemExit' and '\n' not in error.evalue
    assert error.evalue.startswith('instcomp is not installed') and SOURCE in error.evalue
    assert book.cells[1].outputs == []


# The README

NOT_RUN = {'torchrun': 'a training of minutes in two processes: tests/test_processes.py',
           'make': 'of a checkout: tests/test_readme.py'}
LESS = {'instcomp train': '--steps 20'}                  # it takes minutes: README_TO_THE_LETTER=1


def readme_lines():
    "Commands of the README's blocks, without their comments."
    blocks = [block for kind, block in re.findall(r'^```(\w*)\n(.*?)^```', README, re.S | re.M) if not kind]
    return [line.split('  #')[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def shortened(line):
    more = [words for start, words in LESS.items() if line.startswith(start)]
    return ' '.join([line, *more]) if not os.environ.get('README_TO_THE_LETTER') else line


@pytest.fixture(scope='module')
def desk(tmp_path_factory):
    "A folder with what the README's lines name."
    from PIL import Image
    from skimage import data
    folder, given = tmp_path_factory.mktemp('desk'), ROOT/'tests'/'format1'/'in'
    for name in ('my_photos', 'folder'): (folder/name).mkdir()
    Image.fromarray(data.chelsea()[:120, :160]).save(folder/'photo.jpg')
    for name in ('astronaut', 'coffee', 'rocket', 'chelsea'):
        Image.fromarray(getattr(data, name)()[:200, :200]).save(folder/'my_photos'/f'{name}.png')
    shutil.copy(given/'sound.wav', folder/'clip.wav')
    return folder


@slow
def test_every_line_of_the_readme(clean, desk):
    "In their order, in one folder, as a reader types them; left out is only what NOT_RUN names."
    lines = [line for line in readme_lines() if not line.startswith(tuple(NOT_RUN))]
    odd = [line for line in lines if not line.startswith(('instcomp ', 'python -c '))]
    assert len(lines) >= 7 and odd == []
    for line in lines:
        command, *words = shlex.split(shortened(line))
        call(clean.parent/command, *words, cwd=desk)
    there = {path.name for path in desk.rglob('*') if path.is_file()}
    assert there >= {'big.png', 'photo.safetensors', 'photo.png', 'eval.json', 'out.wav', 'turn.gif'}


@slow
def test_python_lines_of_the_readme(clean, desk):
    code, = re.findall(r'```python\n(.*?)```', README, re.S)
    call(clean, '-c', code, cwd=desk)
    assert (desk/'mine'/'model.safetensors').is_file()
