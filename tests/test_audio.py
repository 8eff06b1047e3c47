"Sound files of every kind, clips of every length, and the road from file to file."
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from rooms import ROOT

from instcomp.cli import main
from instcomp.data.audio import Clips, read_sound, resampled, write_sound
from instcomp.data.datasets import SPLITS
from instcomp.data.speech import voice, voices
from instcomp.evaluation.metrics import spectrum
from instcomp.experiments.builder import build, shipped
from instcomp.tasks import audio
from instcomp.tasks.audio import (
    _times,
    evaluate,
    evaluation_windows,
    reconstruct,
    reconstruct_windows,
    source,
    to_codes,
)

VOICE = voice(4, seconds=1.)                                    # (16,000,) at 16 kHz


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return build('audio-ipc-tiny').eval().requires_grad_(False)


def refused(path, *words):
    with pytest.raises((ValueError, OSError)) as caught: read_sound(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize('ending, kind, error', [
    ('wav', 'PCM_U8', 2**-7), ('wav', 'PCM_16', 2**-15), ('wav', 'PCM_24', 2**-22), ('wav', 'PCM_32', 2**-23),
    ('wav', 'FLOAT', 0), ('wav', 'DOUBLE', 0), ('wav', 'ULAW', .02), ('flac', 'PCM_16', 2**-15),
    ('flac', 'PCM_24', 2**-22), ('flac', 'PCM_S8', 2**-6), ('aiff', 'PCM_16', 2**-15), ('ogg', 'VORBIS', .3)])
def test_every_depth(tmp_path, ending, kind, error):
    soundfile.write(tmp_path/f'x.{ending}', VOICE.numpy(), 16_000, kind)
    sound, rate = read_sound(tmp_path/f'x.{ending}')
    assert rate == 16_000 and sound.shape == (1, 16_000) and sound.dtype == torch.float32
    assert (sound[0] - VOICE).abs().max() <= error


@pytest.mark.parametrize('channels', [1, 2, 6])
def test_channels_become_their_mean(tmp_path, channels):
    parts = torch.stack([VOICE*k/6 for k in range(channels)], 1)
    soundfile.write(tmp_path/'x.wav', parts.numpy(), 44_100, 'FLOAT')
    assert torch.allclose(read_sound(tmp_path/'x.wav')[0][0], parts.mean(1), atol=1e-7)


def test_what_is_no_sound(tmp_path):
    (tmp_path/'text.wav').write_text('hello')
    (tmp_path/'nothing.wav').write_bytes(b'')
    soundfile.write(tmp_path/'empty.wav', np.zeros(0), 16_000)
    wave = VOICE.numpy().copy()
    wave[[5, 7]], whole = [np.nan, np.inf], tmp_path/'whole.flac'
    soundfile.write(tmp_path/'nan.wav', wave, 16_000, 'FLOAT')
    soundfile.write(whole, VOICE.numpy(), 16_000)
    (tmp_path/'cut.flac').write_bytes(whole.read_bytes()[:30])
    refused(tmp_path/'text.wav', 'intact')
    refused(tmp_path/'nothing.wav', 'intact')
    refused(tmp_path/'empty.wav', 'no sample')
    refused(tmp_path/'nan.wav', '2 of its samples')
    refused(tmp_path/'cut.flac')
    refused(tmp_path/'missing.wav', 'no such file')
    refused(tmp_path, 'folder')


@pytest.mark.parametrize('n', [1, 2, 511, 512, 513, 15_999, 16_000])
@pytest.mark.parametrize('scale', [1, 2])
def test_any_length_comes_back_exactly_as_long(model, n, scale):
    out = reconstruct(model, VOICE[None, :n], 8000, scale)
    assert out.shape == (1, n*scale) and out.isfinite().all()


def test_no_sample_is_refused(model):
    for shape in ((1, 0), (2, 100), (100,)):
        with pytest.raises(ValueError, match='one sample'): reconstruct(model, torch.zeros(shape), 8000)
    with pytest.raises(ValueError, match='finite'): reconstruct(model, torch.full((1, 9), torch.nan), 8000)
    with pytest.raises(ValueError, match='--scale'): reconstruct(model, VOICE[None], 8000, 10**5)
    with pytest.raises(ValueError, match='--scale'): reconstruct(model, VOICE[None], 8000, 0)


@pytest.mark.parametrize('offset', [0., .25])
def test_silence_stays_silence(model, offset):
    out = reconstruct(model, torch.full((1, 3000), offset), 8000)
    assert (out - offset).abs().max() < 1e-6


def test_level_and_offset_go_round_the_model(model):
    "A quieter clip on an offset comes back as the same clip, quieter and on the offset."
    clip = VOICE[None, :4000] - VOICE[:4000].mean()
    a, b = reconstruct(model, clip, 8000), reconstruct(model, clip/100 + .5, 8000)
    assert torch.allclose(a, (b - .5)*100, atol=1e-3)


@pytest.mark.parametrize('rate', [4000, 11_025, 44_100])
def test_other_rates(model, rate):
    "The output has the clip's own rate and length, whatever the model's."
    clip = resampled(VOICE[None], 16_000, rate)
    assert reconstruct(model, clip, rate).shape == clip.shape


def test_one_window_at_its_own_rate_is_the_plain_decode(model):
    size = model.config['size']
    window = VOICE[None, 2000:2000 + size]
    level = (window - window.mean())*(.7/(window - window.mean()).abs().max())
    a = reconstruct_windows(model, level[None])[0]/.7*(window - window.mean()).abs().max() + window.mean()
    assert torch.allclose(reconstruct(model, window, 8000), a, atol=1e-4)


def test_short_clips_are_left_out_never_padded(tmp_path):
    for k, n in enumerate((1, 400, 15_999, 16_000)): write_sound(VOICE[:n], tmp_path/f'{k}.wav', 16_000)
    config = dict(task=dict(name='audio', rate=16_000), size=16_000)
    clips = source(tmp_path, 'train', config)
    assert clips.left_out == 2 and [f.name for f in clips.items] == ['3.wav']      # 0.wav is for the test
    with pytest.raises(ValueError, match='none of 1 has 16000'): source(tmp_path, 'test', config)
    window = clips.batch(2, 16_000, np.random.default_rng(0), [0, 0])[1, 0]
    assert torch.allclose(window, VOICE, atol=2**-15)


def test_the_last_sample_can_be_drawn():
    clips = Clips([torch.arange(10.)], 8000, 4)
    seen = {float(clips.view(0, 4, np.random.default_rng(k))[0, -1]) for k in range(100)}
    assert seen == {3., 4., 5., 6., 7., 8., 9.}


def test_librispeech_layout_scores_the_first_window(tmp_path, monkeypatch):
    "Sentences in order, whatever lies beside them, and of each the same window for every seed."
    monkeypatch.setenv('INSTCOMP_DATA', str(tmp_path))
    config = dict(task=dict(name='audio', rate=16_000), size=8000)
    with pytest.raises(FileNotFoundError, match='librispeech'): source('librispeech', 'test', config)
    for place, start in (('10/3', 4000), ('1/2', 0)):
        folder, name = tmp_path/'LibriSpeech/test-clean'/place, place.replace('/', '-')
        folder.mkdir(parents=True)
        soundfile.write(folder/f'{name}-0000.flac', VOICE[start:start + 12_000].numpy(), 16_000)
        (folder/f'{name}.trans.txt').write_text(f'{name}-0000 A SENTENCE\n')
    with pytest.raises(ValueError, match='2 of the 2620'): source('librispeech', 'test', config)
    monkeypatch.setitem(SPLITS['librispeech'], 'test', ('test-clean', 2))
    clips = source('librispeech', 'test', config)
    assert [f.name for f in clips.items] == ['1-2-0000.flac', '10-3-0000.flac']
    for seed in (0, 1):
        a, b = evaluation_windows('librispeech', config, 2, seed)
        assert torch.allclose(a, VOICE[None, :8000], atol=2**-15)
        assert torch.allclose(b, VOICE[None, 4000:12_000], atol=2**-15)


def test_test_speakers_are_never_trained_on():
    train, test = voices('train', 8000, 1, .2), voices('test', 8000, 1, .2)
    assert len(train) == 32 and len(test) == 8
    assert not any(torch.equal(a, b) for a in train for b in test)


def test_silent_windows_are_counted_not_scored(model):
    config = model.config
    loud = evaluation_windows('voices', config, 3)
    zeros, offset, score = torch.zeros_like(loud[:1]), torch.full_like(loud[:1], .2), evaluate(model, loud)
    result = evaluate(model, torch.cat([loud, zeros, offset]))
    assert (result['n'], result['silent'], score['silent']) == (3, 2, 0)
    assert all(result[k] == score[k] for k in ('psnr', 'psnr_mean', 'si_sdr', 'log_spectral_distance'))
    assert abs(result['psnr_peak2'] - result['psnr'] - 6.0206) < 1e-3
    for quiet in (zeros, offset):
        with pytest.raises(ValueError, match='silent'): evaluate(model, quiet)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match='finite'): evaluate(model, torch.cat([loud, zeros + bad]))


def test_what_is_no_number_is_no_score(model, monkeypatch):
    "A window that the model spoils is not left out of the mean."
    windows = torch.randn(4, 1, model.config['size'])
    spoilt = windows.clone()
    spoilt[0] = torch.nan
    monkeypatch.setattr(audio, 'reconstruct_windows', lambda *args: spoilt)
    with pytest.raises(ValueError, match='no numbers'): evaluate(model, windows)


def test_commands_take_sounds(tmp_path, capsys, model):
    model.save(tmp_path/'model')
    soundfile.write(tmp_path/'in.wav', torch.stack([VOICE, VOICE], 1)[:3000].numpy(), 16_000, 'PCM_24')
    words = ['--model', str(tmp_path/'model'), '--device', 'cpu']
    straight = ['reconstruct', str(tmp_path/'in.wav'), '-o', str(tmp_path/'out.flac'), '--scale', '2', *words]
    assert main(straight) == 0
    about = soundfile.info(tmp_path/'out.flac')
    assert (about.frames, about.samplerate, about.channels) == (6000, 32_000, 1)
    codes, folder = str(tmp_path/'c.safetensors'), tmp_path/'folder'
    folder.mkdir()
    assert main(['encode', str(tmp_path/'in.wav'), '-o', codes, *words]) == 0
    assert main(['decode', codes, '-o', str(folder), '--scale', '2', *words]) == 0
    a, b = read_sound(folder/'in.wav')[0], read_sound(tmp_path/'out.flac')[0]
    assert (a - b).abs().max() <= 2**-14
    assert main(['eval', str(tmp_path/'model'), '--n', '4', '--json']) == 0
    assert '"si_sdr"' in capsys.readouterr().out


@pytest.mark.parametrize('words, said', [
    ('reconstruct in.wav -o out.png --model MODEL', 'end the name in'),
    ('reconstruct none.wav -o out.wav --model MODEL', 'no such file'),
    ('reconstruct nan.wav -o out.wav --model MODEL', 'finite'),
    ('train audio-ipc-tiny --data photos --steps 1 --out run', 'made for task image'),
    ('train image-ipc-tiny --data voices --steps 1 --out run', 'made for task audio'),
    ('train audio-ipc-tiny --set task.rate=0 --steps 1 --out run', 'task.rate'),
    ('train audio-ipc-tiny --set size=500 --steps 1 --out run', 'is no multiple of it')])
def test_bad_words_end_with_one_line(tmp_path, monkeypatch, capsys, model, words, said):
    monkeypatch.chdir(tmp_path)
    model.save('MODEL')
    soundfile.write('in.wav', VOICE.numpy(), 16_000)
    soundfile.write('nan.wav', np.full(9, np.nan), 16_000, 'FLOAT')
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and said in err
    assert not any((tmp_path/name).exists() for name in ('out.png', 'out.wav', 'run'))


@pytest.mark.skipif('voices-ipc' not in shipped(), reason='data/weights/voices-ipc missing')
def test_shipped_weights_speak_outside_the_checkout(tmp_path):
    write_sound(VOICE, tmp_path/'clip.wav', 16_000)
    env = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    words = [sys.executable, '-m', 'instcomp.cli', 'reconstruct', 'clip.wav', '-o', 'out.wav', '--scale', '2']
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path/'out.wav').frames == 32_000


def test_training_and_decoding_speak_equally_loud(model):
    "The loss of a code is that of its decoded values, the factor behind the network included."
    y = evaluation_windows('voices', model.config, 4)
    code = model.encode(y)
    x, target, _ = model.query(y)
    assert model.inr.out_scale == .1
    assert torch.allclose(model.losses(code, y), (model.decode(code, x) - target).square().mean((1, 2)))


@pytest.mark.parametrize('scale', [2, 3, 6])
def test_the_first_sample_stays_at_time_zero(model, scale):
    "Every `scale`-th output sample is asked where the input sample was."
    about = dict(samples=1300, rate=8000)
    for (a, x), (b, dense) in zip(_times(model, about, 1), _times(model, about, scale)):
        assert b == scale*a and torch.allclose(dense[::scale], x)


@pytest.mark.parametrize('n, rate, m', [(900_070, 44_100, 163_279), (163_279, 8000, 163_279), (9, 8000, 512)])
def test_long_clips_are_decoded_where_they_were_encoded(model, monkeypatch, n, rate, m):
    "torchaudio takes a long clip's length from a float32: it may lack the last sample."
    cut = []
    monkeypatch.setattr('instcomp.tasks.audio.overlapping', lambda *of: cut.append(of) or [of[0] - of[1]])
    list(to_codes(model, torch.zeros(1, n), rate)), list(_times(model, dict(samples=n, rate=rate), 1))
    assert cut == [(m, 512)]*2


@pytest.mark.parametrize('n', [128, 256])
def test_a_spectrum_needs_more_than_half_a_frame(n):
    assert spectrum(torch.zeros(2, 1, n//2 + 1), n).shape[:2] == (2, n//2 + 1)
    for samples in (0, 1, n//2):
        with pytest.raises(ValueError, match=f'needs {n//2 + 1}'): spectrum(torch.zeros(2, 1, samples), n)
