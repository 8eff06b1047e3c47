"sdist -> wheel -> clean environment -> the command works outside the checkout, without a network."
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from rooms import ROOT, modules

WEIGHTS = sorted(path.parent.name for path in ROOT.glob('data/weights/*/config.json'))
pytestmark = pytest.mark.slow


def call(*command, cwd):
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    env |= {'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1', 'PIP_NO_INDEX': '1'}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
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
    call(sys.executable, '-m', 'build', '--no-isolation', '--outdir', 'out', '.', cwd=checkout)
    return next((checkout/'out').glob('*.whl'))


def test_sdist_holds_the_rooms_and_no_tests(wheel):
    names = tarfile.open(next(wheel.parent.glob('*.tar.gz'))).getnames()
    inside = {name.split('/', 1)[-1] for name in names}
    assert {f'instcomp/{name.replace(".", "/")}.py' for name in modules()} <= inside
    assert not [name for name in inside if name.startswith('tests')]     # they need notebooks and benchmarks


@pytest.fixture(scope='module')
def clean(wheel, tmp_path_factory):
    "An environment that holds nothing but the wheel, and sees the dependencies of this one."
    folder = tmp_path_factory.mktemp('clean')
    call(sys.executable, '-m', 'venv', '--without-pip', folder/'env', cwd=folder)
    python = folder/'env'/'bin'/'python'
    site = call(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=folder).strip()
    Path(site, 'dependencies.pth').write_text(sysconfig.get_path('purelib') + '\n')
    call(sys.executable, '-m', 'pip', '--python', python, 'install', '-q', '--no-deps', wheel, cwd=folder)
    return folder


def test_wheel_holds_the_weights_and_is_small(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    files = [f'instcomp/{name.replace(".", "/")}.py' for name in ('__init__', *modules())]
    assert set(files) <= set(names)
    web = (ROOT/'instcomp'/'tasks'/'web').iterdir()
    assert {f'instcomp/tasks/web/{path.name}' for path in web} <= set(names)
    for name in WEIGHTS:
        for file in ['config.json', 'model.safetensors', 'recipe.json']:
            assert f'instcomp/weights/{name}/{file}' in names
        assert (ROOT/'data'/'weights'/name/'model.safetensors').stat().st_size <= 10e6
    assert wheel.stat().st_size <= 50e6


def test_installed_package_is_the_wheel(clean):
    where = call(clean/'env'/'bin'/'python', '-c', 'import instcomp; print(instcomp.__file__)', cwd=clean)
    assert Path(where.strip()).is_relative_to(clean)


def test_version_is_that_of_the_settings(clean):
    show = 'import importlib.metadata as m, instcomp; print(m.version("instcomp"), instcomp.__version__)'
    metadata, attribute = call(clean/'env'/'bin'/'python', '-c', show, cwd=clean).split()
    assert metadata == attribute and f'version = {metadata}\n' in (ROOT/'settings.ini').read_text('utf-8')


@pytest.mark.skipif(not (ROOT/'instcomp'/'cli.py').exists(), reason='instcomp.cli does not exist yet')
def test_command_lists_presets(clean):
    assert 'image-ipc-tiny' in call(clean/'env'/'bin'/'instcomp', 'presets', cwd=clean)


@pytest.mark.skipif('photos-ipc' not in WEIGHTS, reason='data/weights/photos-ipc does not exist yet')
def test_reconstruct_outside_the_checkout(clean):
    from PIL import Image
    from skimage.data import chelsea
    Image.fromarray(chelsea()[:60, :80]).save(clean/'photo.png')
    call(clean/'env'/'bin'/'instcomp', 'reconstruct', 'photo.png', '-o', 'out.png', '--scale', '2', cwd=clean)
    assert Image.open(clean/'out.png').size == (160, 120)
