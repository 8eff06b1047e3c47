"What 33a1978 wrote opens: models of every kind, files of codes, half-finished runs. Made by its own code."
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageSequence
from safetensors import safe_open

from instcomp import load
from instcomp.cli import main

HERE = Path(__file__).parent/'format1'
KEPT = json.loads((HERE/'expected.json').read_text())
MODELS, SHEETS, RUNS = KEPT['models'], KEPT['sheets'], KEPT['runs']
SIGNALS = dict(image='picture.png', audio='sound.wav', nvs='car/transforms.json')
pytestmark = pytest.mark.usefixtures('one_thread')


def run(*words): assert main([*map(str, words), '--device', 'cpu']) == 0


def numbers(path):
    "All numbers of a file of codes, sorted: what the tensors are called may change."
    with safe_open(path, 'pt') as file: tensors = [file.get_tensor(key) for key in file.keys()]
    return torch.cat([t.flatten() for t in tensors]).sort().values


def shown(path):
    "What a decoded file holds, as whole numbers; of a turn every eighth frame."
    if path.suffix == '.wav': return soundfile.read(path, dtype='int16')[0].astype(int)
    frames = ImageSequence.all_frames(Image.open(path), lambda frame: frame.convert('RGB'))
    return np.concatenate([np.asarray(frame, int).ravel() for frame in frames[::8]])


def cells(path):
    "A sheet of pictures as 8 x 8 colours."
    return np.asarray(Image.open(path).convert('RGB').resize((8, 8), Image.BOX), int).ravel()


def written(folder):
    "The only file in a folder."
    path, = folder.iterdir()
    return path


@pytest.mark.parametrize('name', [name for name in MODELS if 'values' in MODELS[name]])
def test_models_answer_as_they_did(name):
    sound = name.startswith('audio')
    shape, d, unit, middle = ((1, 1, 64), 1, .064, 0.) if sound else ((1, 3, 8, 8), 2, 1., .5)
    signal = (torch.arange(math.prod(shape))*.37).sin().reshape(shape)/2 + middle
    x = torch.linspace(-.9, .9, 5*d).reshape(5, d)*unit
    model = load(HERE/'models'/name, 'cpu')
    values = model.decode(model.encode(signal), x).flatten()
    torch.testing.assert_close(values, torch.tensor(MODELS[name]['values']), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', MODELS)
def test_codes_of_old_files_decode(name, tmp_path):
    size = ['--scale', 8/128] if name.startswith('nvs') else []  # turns were as large as views
    run('decode', HERE/'codes'/f'{name}.safetensors', '-o', tmp_path, '--model', HERE/'models'/name, *size)
    found, expected = shown(written(tmp_path)), np.array(MODELS[name]['decoded'])
    assert found.shape == expected.shape and abs(found - expected).max() <= 1


@pytest.mark.parametrize('name', MODELS)
def test_old_models_encode_as_they_did(name, tmp_path):
    path, signal = tmp_path/'codes.safetensors', HERE/'in'/SIGNALS[name.split('-')[0]]
    run('encode', signal, '-o', path, '--model', HERE/'models'/name)
    expected = numbers(HERE/'codes'/f'{name}.safetensors')
    torch.testing.assert_close(numbers(path), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', SHEETS)
def test_old_generators_paint_as_they_did(name, tmp_path):
    run('sample', HERE/'models'/name, '-o', tmp_path/'sheet.png', '--n', 4)
    assert abs(cells(tmp_path/'sheet.png') - np.array(SHEETS[name])).max() <= 8    # matplotlib may differ


@pytest.fixture(scope='module', params=RUNS)
def finished(request, tmp_path_factory):
    "A half-finished run after the command that began it went on: its folder, what the old code made of it."
    out, kept = tmp_path_factory.mktemp('runs')/'run', RUNS[request.param]
    shutil.copytree(HERE/'halfway'/request.param, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE/'in')
        assert main([*kept['words'], '--resume', '--out', str(out)]) == 0
    return out, kept


@pytest.mark.slow
def test_half_finished_runs_go_on(finished):
    out, kept = finished
    lines = [json.loads(line) for line in (out/'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [line['step'] for line in kept['lines']]
    for line, old in zip(lines, kept['lines']):
        assert {key: line[key] for key in old} == pytest.approx(old, rel=1e-4)


@pytest.mark.slow
def test_finished_runs_score_as_they_did(finished, monkeypatch, capsys):
    out, kept = finished
    if 'eval' not in kept: return run('sample', out, '-o', out.parent/'sheet.png', '--n', 4)      # a GAN
    monkeypatch.chdir(HERE/'in')
    run('eval', out, '--data', kept['data'], '--n', 4, '--json')
    score = json.loads(capsys.readouterr().out)
    assert {key: score[key] for key in kept['eval']} == pytest.approx(kept['eval'], rel=1e-4)
