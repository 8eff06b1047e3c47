"benchmarks/bench.py: the ceiling and a row take turns, and a part of the ceiling is that of one round."
import argparse
import shutil

import pytest
import torch
from rooms import ROOT

CPU = torch.device('cpu')


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT/'benchmarks')
    import bench
    return bench


def test_jobs_take_turns(bench):
    called = []
    jobs = {name: lambda name=name: called.append(name) for name in 'abc'}
    taken = bench.turns(jobs, CPU, 3)
    assert ''.join(called) == 4*'abc'                                          # one round to warm up
    assert {name: len(seconds) for name, seconds in taken.items()} == dict(a=3, b=3, c=3)


def test_seconds_buy_rounds(bench, monkeypatch):
    monkeypatch.setattr(bench, 'timed', lambda job, device: 2.)
    assert len(bench.turns(dict(a=None, b=None), CPU, 3, seconds=41)['a']) == 10
    assert len(bench.turns(dict(a=None, b=None), CPU, 3)['a']) == 3


def test_part_of_the_ceiling_is_that_of_the_rounds(bench, monkeypatch):
    "A processor half as fast in the second half of the run: the part stays what it was in each round."
    def turns(jobs, device, runs, seconds):
        return {name: [1., 1., 2., 2.] if name == 'ceiling' else [3., 3., 6., 6.] for name in jobs}
    monkeypatch.setattr(bench, 'turns', turns)
    found = bench.measure('gan', bench.TINY, CPU, 2048, argparse.Namespace(runs=1, seconds=0))
    for got in found['precisions'].values():
        assert got['part'] == pytest.approx(found['gflop']/3/(2e-9*2048**3))
        assert [row['part'] for row in got['rounds']] == 4*[round(got['part'], 3)]
        assert bench.percent(got).endswith(f'({100*got["part"]:.0f} to {100*got["part"]:.0f})')


def test_page_is_that_of_the_files(bench, monkeypatch, tmp_path):
    kept = (ROOT/'benchmarks'/'README.md').read_text('utf-8')
    for name in ('speed', 'claims'): shutil.copytree(ROOT/'benchmarks'/name, tmp_path/name)
    monkeypatch.setattr(bench, 'HERE', tmp_path)
    monkeypatch.setattr(bench, 'FOLDER', tmp_path/'speed')
    bench.report()
    assert (tmp_path/'README.md').read_text('utf-8') == kept, 'run python benchmarks/bench.py --report'
