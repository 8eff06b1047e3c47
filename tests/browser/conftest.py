"A real browser: `make browser` runs all of it, `make test` the smoke test; skipped by name without one."
import os
import shutil
from pathlib import Path

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
         '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run']


def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    if any('browser' in str(word) for word in config.invocation_params.args): return
    for item in items:
        if here in item.path.parents and not item.get_closest_marker('smoke'):
            item.add_marker(pytest.mark.skip(reason=f'{item.name}: make browser'))


def executable(playwright):
    "Where a browser is: $CHROMIUM, Debian's, or the one that `playwright install` placed."
    own = playwright.chromium.executable_path
    found = [os.environ.get('CHROMIUM'), *map(shutil.which, NAMES), own if Path(own).exists() else None]
    return next(filter(None, found), None)


@pytest.fixture(scope='session')
def browser(request):
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    with sync_api.sync_playwright() as playwright:
        path = executable(playwright)
        if path is None: pytest.skip(f'{request.node.name}: no Chromium here: apt install chromium, or set CHROMIUM')
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
