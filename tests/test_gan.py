"A killed GAN run ends as if it never was: both players, their moments, the average, the data's order."
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from instcomp.cli import main
from instcomp.data.images import write_image
from instcomp.models.discriminator import GANBatches, build_gan
from instcomp.training.trainer import train

ROW = dict(size=16, generator=dict(rung=5, scales=[[16, 2], [16, 2]], dim=8, hidden=[16, 16], rate=.3),
           discriminator=dict(widths=[8, 16, 16], rate=2.), loss=dict(gamma=1., every=8),
           train=dict(steps=20, batch=8, lr=1e-3, betas=[0., .99], ema=.9, every=5, seed=0))


def play(out, resume=False):
    torch.manual_seed(0)
    images = torch.rand(64, 3, 16, 16)
    draws = GANBatches(images, 8)
    train(build_gan(ROW), ROW, draws, out, resume=resume, device='cpu', precision='fp32', bar=False)


def test_widths_and_labels_that_do_not_fit_are_named():
    odd = ROW | dict(generator=ROW['generator'] | dict(scales=[[15, 2], [15, 2]]))
    with pytest.raises(ValueError, match='even widths'): build_gan(odd)
    game = build_gan(ROW | dict(generator=ROW['generator'] | dict(classes=3)))
    with pytest.raises(ValueError, match='label below 3'): game.G(torch.randn(2, 8))


def test_a_killed_game_goes_on_to_the_bit(tmp_path):
    torch.set_num_threads(1)
    play(tmp_path/'whole')
    env = os.environ | dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE')
    child = subprocess.Popen([sys.executable, __file__, str(tmp_path/'killed')], env=env)
    while not (tmp_path/'killed'/'state').exists():
        assert child.poll() is None or (tmp_path/'killed'/'state').exists()
        time.sleep(.01)
    child.kill()
    child.wait()
    play(tmp_path/'killed', resume=True)
    for name in ('model', 'ema', 'optim'):
        a, b = (load_file(tmp_path/run/'state'/f'{name}.safetensors') for run in ('whole', 'killed'))
        assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a), name
    assert {key.split('/')[1][:2] for key in b} == {'G.', 'D.'}


def test_the_command_plays_games(tmp_path, capsys):
    (tmp_path/'in').mkdir()
    for i in range(4): write_image(torch.rand(3, 40, 36), tmp_path/f'in/{i}.png')
    run, picture = str(tmp_path/'run'), str(tmp_path/'in/0.png')
    words = ['--data', str(tmp_path/'in'), '--out', run, '--steps', '2', '--device', 'cpu']
    words += ['--set', 'train.batch=4']
    assert main(['train', 'inrgan-tiny', *words]) == 0 and 'distance (swd)' in capsys.readouterr().out
    assert main(['train', 'inrgan-tiny', *words, '--resume']) == 0
    assert main(['sample', run, '-o', str(tmp_path/'sheet.png'), '--n', '4']) == 0
    assert (tmp_path/'sheet.png').stat().st_size > 1000
    capsys.readouterr()
    assert main(['eval', run, '--data', str(tmp_path/'in'), '--json', '--pictures', '--device', 'cpu']) == 0
    score = json.loads(capsys.readouterr().out)
    assert score.keys() >= {'swd', 'precision', 'recall'} and score['n'] == 4 and 'psnr' not in score
    assert (tmp_path/'run'/'samples.png').exists()
    for bad, word in [(['train', 'inrgan-tinny'], 'inrgan-tiny'),
                      (['sample', str(tmp_path), '-o', 'a.png'], 'config'),
                      (['train', 'inrgan-tiny', '--set', 'train.batches=4'], 'batches'),
                      (['sample', 'photos-ipc', '-o', 'a.png'], 'not a GAN'),
                      (['eval', run, '--data', str(tmp_path/'in'), '--refine', '3'], '--refine'),
                      (['eval', run, '--data', str(tmp_path/'in'), '--n', '2'], '4 or more'),
                      (['reconstruct', picture, '-o', 'a.png', '--model', run], 'instcomp sample'),
                      (['sample', run, '-o', str(tmp_path/'sheet.txt')], '.png')]:
        assert main(bad) == 2
        line = capsys.readouterr().err
        assert line.count('\n') == 1 and word in line, line


if __name__ == '__main__': play(sys.argv[1])
