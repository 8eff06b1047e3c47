"Three notebooks opened in JupyterLab and run from top to bottom, as a reader would."
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOKS = ['01_coords.ipynb', '09_ipc.ipynb', 'tasks/page.ipynb']
OUTSIDE = re.compile(r'(https?|wss?)://(?!127\.0\.0\.1[:/])')
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A JupyterLab of a copy of the course; its address."
    home = tmp_path_factory.mktemp('lab')
    shutil.copytree(ROOT/'nbs', home/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    places = {f'JUPYTER_{name}_DIR': str(home/name) for name in ('CONFIG', 'DATA', 'RUNTIME')}
    env = os.environ | places | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    words = [f'--ServerApp.port={port}', '--no-browser', '--allow-root', '--IdentityProvider.token=',
             '--LabApp.news_url=', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
    log = open(home/'log', 'w')
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *words], cwd=home/'nbs', env=env,
                              stdout=log, stderr=subprocess.STDOUT)
    address, end = f'http://127.0.0.1:{port}', time.monotonic() + 120
    while True:
        try: urllib.request.urlopen(f'{address}/api', timeout=5).close()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > end or server.poll() is not None: raise
            time.sleep(.5)
        else: break
    yield address, home/'nbs'
    server.terminate()
    server.wait(30)
    log.close()


@pytest.mark.parametrize('name', BOOKS)
def test_a_notebook_runs_in_jupyterlab(browser, lab, name):
    address, home = lab
    tab = browser.new_page(viewport=dict(width=1200, height=900))
    asked = []
    tab.on('request', lambda request: asked.append(request.url))
    tab.route(OUTSIDE, lambda route: route.abort())
    tab.goto(f'{address}/lab/tree/{name}?reset')
    tab.locator('.jp-NotebookPanel .jp-CodeCell').first.wait_for(timeout=120_000)
    tab.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(timeout=120_000)
    again = '[data-command="notebook:restart-run-all"]'
    tab.locator(f'jp-button{again}, button{again}').first.click(timeout=60_000)
    tab.get_by_role('button', name='Confirm Kernel Restart').or_(
        tab.locator('.jp-Dialog .jp-mod-accept')).first.click()
    tab.wait_for_timeout(3000)
    end = time.monotonic() + 240
    while time.monotonic() < end:                        # until the kernel has no more to do
        tab.wait_for_timeout(1000)
        tab.keyboard.press('Control+s')
        cells = json.loads((home/name).read_text('utf-8'))['cells']
        code = [cell for cell in cells if cell['cell_type'] == 'code' and cell['source']]
        errors = [o for cell in code for o in cell['outputs'] if o['output_type'] == 'error']
        assert not errors, errors[0]['evalue']
        if all(cell['execution_count'] for cell in code): break
    else: raise TimeoutError(f'{name}: {[c["execution_count"] for c in code]} {tab.inner_text("body")[:200]}')
    assert [url for url in asked if OUTSIDE.match(url) and 'colab-badge' not in url] == []
    if name == 'tasks/page.ipynb':
        frame = tab.frame_locator('iframe').locator('#zoom')
        frame.wait_for(state='attached', timeout=120_000)
    tab.close()
