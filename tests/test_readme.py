"The README's Python example and commands are run or looked up, never trusted."
import os
import re
import subprocess
import sys

import pytest
from rooms import ROOT

TEXT = (ROOT/'README.md').read_text(encoding='utf-8')
PYTHON = re.findall(r'```python\n(.*?)```', TEXT, re.S)


def test_make_knows_the_targets():
    helped = subprocess.run(['make', '-s', 'help'], cwd=ROOT, capture_output=True, text=True).stdout
    targets = {line.split()[0] for line in helped.splitlines()}
    assert targets >= {'demo', 'test', 'lab', 'docs', 'bench', 'lint', *re.findall(r'make (\w+)', TEXT)}


@pytest.mark.skipif(not (ROOT/'data/weights/photos-ipc').exists(), reason='data/weights/photos-ipc missing')
def test_python_example_runs(tmp_path):
    code = PYTHON[0] + '\nassert big.shape == (1, 712, 712, 3)'
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path/'mine'/'model.safetensors').exists()


def test_example_is_ten_lines():
    assert len(PYTHON) == 1 and len([line for line in PYTHON[0].splitlines() if line.strip()]) <= 11


def test_tables_are_those_of_the_claims():
    script = [sys.executable, 'benchmarks/tables.py', '--check']
    assert subprocess.run(script, cwd=ROOT).returncode == 0, 'run benchmarks/tables.py'
