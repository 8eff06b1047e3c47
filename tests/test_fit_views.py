"A scene's fit is seen at the cameras of pictures that it did not learn from."
import pytest
import torch
from test_fit import SMALL, call, files, here, words  # noqa: F401

from instcomp.data.images import read_image
from instcomp.evaluation.metrics import psnr
from instcomp.experiments.builder import load
from instcomp.tasks.registry import task_of


def test_held_out_views_are_pictures(here, capsys):  # noqa: F811
    assert call(['fit', 'scene', '--device', 'cpu', *words('scene')], capsys)[0] == 0
    code, _, err = call('eval runs/scene --pictures --device cpu', capsys)
    assert code == 0 and err == ''
    made = sorted((here/'runs/scene').glob('view-*.png'))
    model = load('runs/scene', 'cpu')
    task = task_of(model.config)
    scene, = task.evaluation('scene', 1, 0)
    assert len(made) == len(scene.images) - scene.context == 2
    level = []
    for k, path in enumerate(made):
        true, seen = read_image(path).chunk(2, 2)
        assert (true - scene.images[scene.context + k]).abs().max() < 1/200
        level.append(psnr(seen[None], true[None]))
    said = task.evaluate(model, [scene])['psnr']             # of the same views, before they became bytes
    assert torch.cat(level).mean().item() == pytest.approx(said, abs=.05)
