"A real browser: `make browser` runs all of it, `make test` the smoke test; skipped by name without one."
from pathlib import Path

import pytest
from chromium import FLAGS, executable


def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    if any('browser' in str(word) for word in config.invocation_params.args): return
    for item in items:
        if here in item.path.parents and not item.get_closest_marker('smoke'):
            item.add_marker(pytest.mark.skip(reason=f'{item.name}: make browser'))


@pytest.fixture(scope='session')
def browser():
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    with sync_api.sync_playwright() as playwright:
        path = executable(playwright)
        if path is None: pytest.skip('no Chromium here: apt install chromium, or set CHROMIUM')
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
