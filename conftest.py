"Shared by tests/ and the notebooks: GPU tests are skipped by name, and each notebook's seconds are printed."
from collections import defaultdict

import pytest

LIMIT = 90                                          # seconds one notebook may take on two cores


@pytest.fixture(scope='module')
def one_thread():
    "As the expected numbers were made: the number of threads decides the order of sums."
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def whole(one_thread, tmp_path_factory):
    "A run of tests/tiny.py that nothing interrupted."
    import tiny
    out = tmp_path_factory.mktemp('whole')/'run'
    tiny.go(out)
    return out


def pytest_collection_modifyitems(items):
    for item in items:                              # nbdev_clean blanks counts, which nbval takes for unrun
        cell = getattr(item, 'cell', None)
        if cell is not None and cell.get('execution_count', 0) is None: cell.execution_count = 0
    marked = [item for item in items if item.get_closest_marker('gpu')]
    if not marked: return
    import torch
    if torch.cuda.is_available(): return
    for item in marked: item.add_marker(pytest.mark.skip(reason=f'{item.name} needs a CUDA card'))


def pytest_terminal_summary(terminalreporter):
    seconds = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            path = getattr(report, 'nodeid', '').split('::')[0]
            if path.endswith('.ipynb'): seconds[path] += getattr(report, 'duration', 0)
    if not seconds: return
    terminalreporter.section('seconds a notebook')
    for path, spent in sorted(seconds.items()):
        terminalreporter.line(f'{spent:7.1f}  {path}' + ('  over the limit' if spent > LIMIT else ''))
