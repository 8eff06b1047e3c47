"The worked example of CONTRIBUTING.md, to the letter: registered, built, trained for two steps, scored."
import importlib.util
import json
import re

import pytest
import torch
from rooms import ROOT

from instcomp.cli import main
from instcomp.experiments.builder import load
from instcomp.experiments.catalog import PRESETS
from instcomp.experiments.run import train_preset
from instcomp.schema import ROLES
from instcomp.tasks.registry import TASKS, task_of

TABLES = ROLES['modulator'], ROLES['encoder'], ROLES['task'], ROLES['data'], TASKS, PRESETS


@pytest.fixture
def example(tmp_path):
    "The module that CONTRIBUTING.md quotes; afterwards the tables are as before."
    kept = [dict(table) for table in TABLES]
    code, = re.findall(r'```python\n(.*?)```', (ROOT/'CONTRIBUTING.md').read_text('utf-8'), re.S)
    (tmp_path/'worked.py').write_text(code)
    spec = importlib.util.spec_from_file_location('worked', tmp_path/'worked.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for table, before in zip(TABLES, kept):
        table.clear()
        table.update(before)


def test_the_example_trains_and_is_scored(example, tmp_path, capsys):
    out = tmp_path/'run'
    last = train_preset('grey-gain-tiny', out, steps=2, device='cpu', precision='fp32', bar=False)
    assert last['step'] == 2 and last['psnr'] > 0
    model = load(out, 'cpu')
    assert isinstance(model.modulator, example.Gain) and isinstance(model.encoder, example.Matrix)
    task = task_of(model.config)
    assert isinstance(task, example.Grey)
    grey = task.evaluation('photos', 4, 0)
    assert grey.shape[1] == 1 and model(grey, torch.zeros(5, 2)).shape == (4, 5, 1)
    assert main(['eval', str(out), '--n', '4', '--json', '--device', 'cpu']) == 0
    assert json.loads(capsys.readouterr().out)['psnr'] == task.evaluate(model, grey)['psnr']
