"The shipped weights answer, score and train on as they did: small values kept to 1e-4."
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from instcomp import load
from instcomp.cli import main

HERE = Path(__file__).parent
IN = HERE/'format1'/'in'
KEPT = HERE/'expected.json'
TRAINED = {'image-ipc-tiny': [], 'audio-ipc-tiny': [], 'inrgan-tiny': ['--data', IN/'pictures'],
           'nvs-ipc-tiny-cars': ['--data', IN/'car', '--set=task.support=[1, 2]']}
pytestmark = pytest.mark.usefixtures('one_thread')


def formula(*shape):
    "Numbers from 0 to 1 without a generator of random ones."
    return (torch.arange(math.prod(shape))*.37).sin().reshape(shape)/2 + .5


def run(*words): assert main([*map(str, words), '--device', 'cpu']) == 0


def answers(name):
    "Of a formula for a picture or a sound: some numbers of its code, refined too, and values at five points."
    torch.manual_seed(0)
    model = load(name, 'cpu')
    size, d = model.config['size'], 1 if name == 'voices-ipc' else 2
    signal = formula(1, 3, size, size) if d == 2 else formula(1, 1, size) - .5
    x = (formula(5, d)*2 - 1)*(1 if d == 2 else .03)
    codes = [model.encode(signal, steps) for steps in (0, 2)]
    return dict(zip(('code', 'refined'), (code.flatten()[::97][:20].tolist() for code in codes)),
                values=[model.decode(code, x).flatten().tolist() for code in codes])


def field(folder):
    "Of the pictures of a car: some numbers of its code, and values at places."
    run('encode', IN/'car'/'transforms.json', '-o', folder/'car.safetensors', '--model', 'cars-ipc')
    code, = load_file(folder/'car.safetensors').values()
    values = load('cars-ipc', 'cpu').decode(code, formula(8, 3)*1.6 - .8)
    return dict(code=code.flatten()[::97].tolist(), values=values.flatten().tolist())


def sheet(folder):
    "Four pictures of the GAN as 16 x 16 colours."
    run('sample', 'inrgan-tiny', '-o', folder/'sheet.png', '--n', 4)
    picture = Image.open(folder/'sheet.png').convert('RGB').resize((16, 16), Image.BOX)
    return np.asarray(picture, int).ravel().tolist()


def losses(preset, folder):
    "The first three losses of a training, and what it scores after each step."
    few = ['--set=train.every=1', '--set=train.batch=4', '--steps', 3, '--precision', 'fp32']
    run('train', preset, '--out', folder/preset, *few, *TRAINED[preset])
    lines = map(json.loads, (folder/preset/'metrics.jsonl').read_text().splitlines())
    return [{key: line[key] for key in ('loss', 'psnr') if key in line} for line in lines]


def score(name, capsys):
    "The held-out score of eight signals, refined too."
    capsys.readouterr()
    run('eval', name, '--json', '--n', 8, '--refine', 1)
    told = json.loads(capsys.readouterr().out)
    return {key: told[key] for key in ('psnr', 'psnr_refined', 'code_numbers')}


def kept(*path):
    "An expected value."
    value = json.loads(KEPT.read_text())
    for key in path: value = value[key]
    return value


def same(found, expected):
    "Equal to 1e-4, through lists and dicts."
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected: same(found[key], expected[key])
    else: assert np.array(found) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-4)


NAMES = ['photos-ipc', 'image-cavia', 'voices-ipc']


@pytest.mark.parametrize('name', NAMES)
def test_answers(name): same(answers(name), kept('answers', name))


@pytest.mark.parametrize('name', NAMES)
def test_scores(name, capsys): same(score(name, capsys), kept('scores', name))


def test_field(tmp_path): same(field(tmp_path), kept('field'))


def test_sheet(tmp_path):
    assert np.abs(np.array(sheet(tmp_path)) - kept('sheet')).max() <= 3      # matplotlib's frame may differ


@pytest.mark.slow
@pytest.mark.parametrize('preset', TRAINED)
def test_first_losses(preset, tmp_path):
    for found, expected in zip(losses(preset, tmp_path), kept('losses', preset), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
