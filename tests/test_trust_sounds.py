"Sounds that other tools, broken disks and attackers make: the right value or one line, in bounded memory."
import os
import pickle
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from instcomp.cli import main
from instcomp.data import audio
from instcomp.data.audio import Clips, read_sound, resampled, resampled_at, sound_length, write_sound
from instcomp.data.speech import voice
from instcomp.experiments.builder import build
from instcomp.limits import set_limits
from instcomp.tasks.audio import AudioTask, count_windows, describe_clip, output_length, reconstruct, source
from instcomp.tasks.image import ImageTask
from instcomp.tasks.local import LevelledClips
from instcomp.tasks.registry import kind_of, weights_for
from instcomp.tasks.views import ViewsTask

VOICE = voice(4, seconds=1.)                                    # (16,000,) at 16 kHz
CONFIG = dict(task=dict(name='audio', rate=8000), size=512)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return build('audio-ipc-tiny').eval().requires_grad_(False)


def refused(call, *words):
    "The line of an error, with the words in it."
    with pytest.raises((ValueError, OSError)) as caught: call()
    text = str(caught.value)
    assert '\n' not in text and all(word in text for word in words), text
    return text


def wav(body, rate=8000, channels=1, kind=3, bits=32, claim=None, extra=b''):
    "The bytes of a WAV that says what it likes."
    block = channels*bits//8
    head = struct.pack('<HHIIHH', kind, channels, rate, rate*block % 2**32, block, bits)
    claim = struct.pack('<I', len(body) if claim is None else claim)
    data = b'fmt \x10\0\0\0' + head + extra + b'data' + claim
    return b'RIFF' + struct.pack('<I', 4 + len(data) + len(body)) + b'WAVE' + data + body


def floats(values): return np.asarray(values, '<f4').tobytes()


# ---- writing: what a codec can hold
@pytest.mark.parametrize('ending, rate, fits', [
    ('ogg', 200_000, True), ('ogg', 200_001, False), ('ogg', 384_000, False), ('flac', 65_535, True),
    ('flac', 65_536, False), ('flac', 77_175, False), ('flac', 77_170, True), ('flac', 655_350, True),
    ('flac', 655_360, False), ('wav', 2**31 - 1, True), ('wav', 2**31, False), ('ogg', 1, True),
    ('wav', 0, False), ('flac', -8000, False), ('wav', 8000.5, False)])
def test_a_rate_that_the_codec_cannot_hold(tmp_path, ending, rate, fits):
    path = tmp_path/f'x.{ending}'
    if fits: assert soundfile.info(write_sound(VOICE[:999], path, rate)).samplerate == rate
    else: refused(lambda: write_sound(VOICE[:999], path, rate), f'x.{ending}', f'{rate:,}')
    assert len(list(tmp_path.iterdir())) == fits


def test_the_limits_are_those_of_the_library(tmp_path):
    "In processes of their own, since the encoder may crash: what is refused fails there, too."
    write = 'import soundfile, sys; soundfile.write(sys.argv[1], [0.]*999, int(sys.argv[2]))'
    for ending, rate in (('ogg', 200_001), ('flac', 65_541), ('flac', 655_351)):
        words = [sys.executable, '-c', f'{write}; assert soundfile.read(sys.argv[1])[1] == {rate}',
                 str(tmp_path/f'x.{ending}'), str(rate)]
        assert subprocess.run(words, capture_output=True, cwd=tmp_path).returncode != 0


def test_a_wav_ends_at_4_gigabytes(tmp_path):
    many = torch.zeros(1).expand(2**31)                                    # takes no memory
    with pytest.raises(ValueError, match='4 GB'): audio._check_written('x.wav', len(many), 8000)
    audio._check_written('x.flac', len(many), 8000)
    refused(lambda: write_sound(torch.zeros(0), tmp_path/'x.wav', 8000), 'x.wav', 'without samples')


def test_the_command_names_the_rate_and_leaves_nothing(tmp_path, monkeypatch, capsys, model):
    monkeypatch.chdir(tmp_path)
    model.save('MODEL')
    write_sound(VOICE[:900], 'in.wav', 96_000)
    write_sound(VOICE[:900], 'eleven.wav', 11_025)
    before = sorted(os.listdir())
    for words, said in [('in.wav -o a.ogg --scale 4', '384,000'),
                        ('eleven.wav -o a.flac --scale 7', '77,175'),
                        ('in.wav -o a.wav --scale 200000', '--limit'),
                        ('in.wav -o a.wav --size 10x10', '--scale')]:
        assert main(['reconstruct', *words.split(), '--model', 'MODEL']) == 2
        err = capsys.readouterr().err
        assert err.count('\n') == 1 and said in err and 'room' not in err
    assert sorted(os.listdir()) == before


# ---- which kind a file is
def test_opus_is_read(tmp_path):
    soundfile.write(tmp_path/'x.opus', VOICE.numpy(), 16_000, format='OGG', subtype='OPUS')
    sound, rate = read_sound(tmp_path/'x.opus')
    assert rate == 16_000 and sound.shape == (1, 16_000) and (sound[0] - VOICE).square().mean() < .01
    assert kind_of(tmp_path/'x.opus') is AudioTask


@pytest.mark.parametrize('name, head', [
    ('x.m4a', b'\0\0\0 ftypM4A \0\0\0\0'), ('x.mp4', b'\0\0\0 ftypisom\0\0\0\0'),
    ('x.aac', b'\xff\xf1P\x80' + bytes(9)), ('x.wma', b'0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa'),
    ('x.webm', b'\x1aE\xdf\xa3' + bytes(9)), ('x.raw', bytes(99)),
    ('disguised.wav', b'\0\0\0 ftypM4A \0\0\0\0'), ('none', b'\0\0\0 ftypM4A \0\0\0\0')])
def test_other_sounds_are_told_what_to_do(tmp_path, monkeypatch, capsys, name, head):
    monkeypatch.chdir(tmp_path)
    (tmp_path/name).write_bytes(head)
    assert kind_of(name) is AudioTask
    refused(lambda: read_sound(name), name, 'convert', '.wav')
    if name[0] != 'x': return
    assert main(['reconstruct', name, '-o', 'm.wav']) == 2 and 'convert' in capsys.readouterr().err


def test_an_unknown_ending_is_no_picture(tmp_path):
    write_sound(VOICE[:900], tmp_path/'a.wav', 8000).rename(tmp_path/'a.xyz')
    for name, head, kind in [('b', b'\x89PNG\r\n\x1a\n', ImageTask),
                             ('c.jfif_', b'\xff\xd8\xff\xe0', ImageTask),
                             ('d', b'RIFF\0\0\0\0WEBP', ImageTask), ('e', b'\0\0\0 ftypavif', ImageTask),
                             ('f.txt', b'\xef\xbb\xbf {"frames": []}', ViewsTask),
                             ('g', b'fLaC' + bytes(9), AudioTask)]:
        (tmp_path/name).write_bytes(head)
        assert kind_of(tmp_path/name) is kind
    assert weights_for(tmp_path/'a.xyz') == 'speech-local' and weights_for('a.PNG', 2) == 'photos-zoom'
    (tmp_path/'h.docx').write_bytes(b'PK\3\4')
    refused(lambda: kind_of(tmp_path/'h.docx'), 'h.docx', '.png', '.wav', '.json')
    refused(lambda: kind_of(tmp_path/'none.xyz'), 'none.xyz', 'no such file')
    os.mkfifo(tmp_path/'pipe')
    refused(lambda: kind_of(tmp_path/'pipe'), 'pipe')


def test_a_folder_is_what_most_of_it_is(tmp_path):
    for name in ('cover.jpg', '1.wav', '2.opus', '.hidden.png', 'notes.txt'): (tmp_path/name).touch()
    assert kind_of(tmp_path) is AudioTask
    (tmp_path/'deeper').mkdir()
    (tmp_path/'deeper'/'transforms_train.JSON').touch()
    assert kind_of(tmp_path) is ViewsTask
    (tmp_path/'empty').mkdir()
    (tmp_path/'empty'/'notes.txt').touch()
    refused(lambda: kind_of(tmp_path/'empty'), 'empty', 'ends in', '.wav')
    with set_limits(['files=3']): refused(lambda: kind_of(tmp_path), '--limit files')


# ---- resampling
@pytest.mark.parametrize('old, new', [
    (44_100, 8000), (8000, 44_100), (1009, 1000), (997, 1009), (16_000, 500), (7, 3), (1, 3), (3, 1)])
def test_both_ways_of_resampling_agree(old, new):
    wave = torch.randn(2, 700, dtype=torch.float64)
    n = -(-700*new//old)
    whole, ours = resample(wave, old, new), resampled_at(wave, old, new, 0, n)
    assert whole.shape == ours.shape and (whole - ours).abs().max() < 1e-11
    assert torch.equal(resampled(wave, old, new), whole)               # as before where the bank is small
    part = wave[:, 200:500]
    a, b = n*300//700, n*340//700
    if b - a > 2 and old < 4000*new:
        reach = audio._reduced(old, new)[2] + 2
        part, offset = wave[:, max(0, a*old//new - reach):b*old//new + reach], max(0, a*old//new - reach)
        assert (resampled_at(part, old, new, a, b - a, offset) - whole[:, a:b]).abs().max() < 1e-11


@pytest.mark.parametrize('old, new', [
    (44_101, 8000), (999_983, 8000), (8000, 999_983), (999_983, 1), (100, 999_983)])
def test_awkward_rates_take_little_memory(old, new):
    "A tone below both cut-offs comes out as that tone."
    n = 3*old//100 if old > 1000 else 60
    turns = min(old, new)/10
    tone = lambda k, rate: torch.sin(2*torch.pi*turns*torch.arange(k, dtype=torch.float64)/rate)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = resampled(tone(n, old), old, new)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000          # KB
    assert len(out) == -(-n*new//old)
    inner = slice(len(out)//3, 2*len(out)//3)
    assert (out - tone(len(out), new))[inner].abs().max() < .02 if len(out) > 100 else out.isfinite().all()


def test_the_length_of_a_long_sound_is_exact(monkeypatch):
    "torchaudio takes it from a float32; the last samples come the other way."
    cut = lambda sound, old, new: resample(sound, old, new)[..., :-3]
    wave = torch.randn(1, 4000)
    whole = resampled(wave, 44_100, 8000)
    monkeypatch.setattr('torchaudio.functional.resample', cut)
    ours = resampled(wave, 44_100, 8000)
    assert ours.shape == whole.shape == (1, 726) and (ours - whole).abs().max() < 1e-4
    with set_limits(['samples=700']): refused(lambda: resampled(wave, 44_100, 8000), '--limit samples')


# ---- reading: claims, values, metadata
def test_more_samples_claimed_than_there(tmp_path):
    path = tmp_path/'x.flac'
    soundfile.write(path, VOICE.numpy(), 16_000)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] | 15]) + b'\xff'*4                     # 2**36 - 1 samples
    path.write_bytes(data)
    refused(lambda: read_sound(path), 'x.flac', '68,719,476,735', '--limit samples')
    with set_limits(['samples=1e12']): refused(lambda: read_sound(path), 'x.flac', 'intact')
    refused(lambda: sound_length(path), 'x.flac', 'bytes')
    data[21:26] = bytes([data[21] & 240, 0, 1, 0, 0])                    # 65,536: within the limit
    path.write_bytes(data)
    refused(lambda: read_sound(path), 'x.flac', 'intact')


@pytest.mark.parametrize('ending', ['wav', 'flac', 'ogg', 'mp3', 'opus', 'aiff', 'au', 'w64', 'rf64', 'caf'])
@pytest.mark.parametrize('part', [.3, .99])
def test_a_file_that_is_cut_short(tmp_path, ending, part):
    path, long = tmp_path/f'x.{ending}', np.tile(VOICE.numpy(), 3)
    soundfile.write(path, long, 16_000, **dict(format='OGG', subtype='OPUS') if ending == 'opus' else {})
    assert read_sound(path)[0].shape == (1, 48_000)
    path.write_bytes(path.read_bytes()[:int(part*path.stat().st_size)])
    refused(lambda: read_sound(path), f'x.{ending}')


def test_streams_that_do_not_know_their_length(tmp_path):
    wave = floats(VOICE[:900])
    for claim in (2**32 - 1, 2**31 - 1, 2**31 - 37):
        (tmp_path/'x.wav').write_bytes(wav(wave, claim=claim))
        assert torch.equal(read_sound(tmp_path/'x.wav')[0][0], VOICE[:900])
    soundfile.write(tmp_path/'x.flac', VOICE.numpy(), 16_000)
    data, whole = bytearray((tmp_path/'x.flac').read_bytes()), read_sound(tmp_path/'x.flac')[0]
    data[21:26] = bytes([data[21] & 240, 0, 0, 0, 0])
    (tmp_path/'x.flac').write_bytes(data)
    assert torch.equal(read_sound(tmp_path/'x.flac')[0], whole)
    assert sound_length(tmp_path/'x.flac')[0] == 16_000
    assert torch.equal(read_sound(tmp_path/'x.flac', 900, 50)[0], whole[:, 900:950])
    with set_limits(['samples=15999']): refused(lambda: read_sound(tmp_path/'x.flac'), '--limit samples')


@pytest.mark.parametrize('kind', ['ogg', 'opus', 'flac', 'wav', 'mp3'])
def test_several_streams_in_one_file(tmp_path, kind):
    how = dict(opus=dict(format='OGG', subtype='OPUS')).get(kind, dict(format=kind.upper()))
    for name, n in (('a', 9000), ('b', 5000)):
        soundfile.write(tmp_path/name, VOICE[:n].numpy(), 16_000, **how)
    (tmp_path/f'x.{kind}').write_bytes((tmp_path/'a').read_bytes() + (tmp_path/'b').read_bytes())
    refused(lambda: read_sound(tmp_path/f'x.{kind}'), f'x.{kind}', 'streams')
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audio, 'LONG', 1000)
        clips = lambda: Clips([tmp_path/f'x.{kind}'], 8000, 512)  # a long MP3 is read whole, when asked for
        refused(lambda: clips().window(0, 512) if kind == 'mp3' else clips(), f'x.{kind}', 'streams')


@pytest.mark.parametrize('values, word', [
    ([0, np.nan, np.inf], '2 of its'), ([0, 1e38, -1e38], '1e+38'), ([3.4e38, 3.4e38], 'scale it down'),
    ([0, 32_768], 'scale it down')])
def test_values_that_no_sound_has(tmp_path, values, word):
    for channels in (1, len(values)):
        (tmp_path/'x.wav').write_bytes(wav(floats(values), channels=channels))
        refused(lambda: read_sound(tmp_path/'x.wav'), 'x.wav', word)
    refused(lambda: read_sound(tmp_path/'x.wav', 5), 'no sample')


@pytest.mark.parametrize('rate', [0, 1, 99, 10**6 + 1, 2**31 - 1, 2**32 - 1])
def test_rates_that_no_sound_has(tmp_path, rate):
    (tmp_path/'x.wav').write_bytes(wav(floats(VOICE[:99]), rate))
    refused(lambda: read_sound(tmp_path/'x.wav'), 'x.wav')


@pytest.mark.parametrize('channels', [2, 1000, 1024])
def test_many_channels(tmp_path, channels):
    parts = np.random.default_rng(0).normal(size=(700, channels)).astype('f4')
    (tmp_path/'x.wav').write_bytes(wav(floats(parts), channels=channels))
    assert np.allclose(read_sound(tmp_path/'x.wav')[0][0], parts.mean(1, dtype=float), atol=1e-7)
    with set_limits([f'samples={700*channels - 1}']): refused(lambda: read_sound(tmp_path/'x.wav'), '--limit')
    both = np.stack([VOICE.numpy(), -VOICE.numpy()], 1)
    soundfile.write(tmp_path/'phase.wav', both, 16_000)
    assert read_sound(tmp_path/'phase.wav')[0].abs().max() <= 2**-15


@pytest.mark.parametrize('name', [b'cue ', b'LIST', b'smpl', b'bext', b'PEAK', b'cart', b'id3 ', b'JUNK'])
@pytest.mark.parametrize('claim', [64, 2**28, 2**31 - 1, 2**32 - 1])
def test_metadata_of_absurd_size(tmp_path, name, claim):
    "Read beside it, or one line; never memory for what it claims."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for fill in (b'\0', b'\x7f', b'\xff'):
        extra = name + struct.pack('<I', claim) + fill*64
        (tmp_path/'x.wav').write_bytes(wav(floats(VOICE[:99]), extra=extra))
        try: assert torch.equal(read_sound(tmp_path/'x.wav')[0][0], VOICE[:99])
        except ValueError as error: assert 'x.wav' in str(error) and '\n' not in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000           # KB


def test_what_is_no_plain_file(tmp_path):
    os.mkfifo(tmp_path/'pipe.wav')
    (tmp_path/'zero.wav').symlink_to('/dev/zero')
    for name in ('pipe.wav', 'zero.wav'): refused(lambda: read_sound(tmp_path/name), name, 'plain')
    with pytest.raises(IsADirectoryError): read_sound(tmp_path)


def test_the_decoder_of_mpeg_says_nothing_itself(tmp_path, monkeypatch, capfd):
    "mpg123 writes to the terminal past Python; a refusal is one line."
    soundfile.write(tmp_path/'x.mp3', VOICE.numpy(), 16_000)
    data = (tmp_path/'x.mp3').read_bytes()
    (tmp_path/'x.mp3').write_bytes(data[:len(data)//2])
    soundfile.read(tmp_path/'x.mp3')
    assert 'Warning' in capfd.readouterr().err
    refused(lambda: read_sound(tmp_path/'x.mp3'), 'x.mp3', 'cut short')
    assert capfd.readouterr().err == ''
    os.write(2, b'heard')                                                  # stderr is itself again
    assert capfd.readouterr().err == 'heard'
    with monkeypatch.context() as patched:
        patched.setattr(os, 'dup', lambda handle: os.close(-1))            # where there is no stderr
        refused(lambda: read_sound(tmp_path/'x.mp3'), 'x.mp3', 'cut short')


@pytest.mark.parametrize('ending', ['wav', 'flac', 'ogg', 'mp3', 'opus'])
def test_a_stretch_is_that_stretch_of_the_whole(tmp_path, ending):
    "Also where the decoder's own jumps miss: near the end of a Vorbis file."
    path, long = tmp_path/f'x.{ending}', np.tile(VOICE.numpy(), 4)[:60_000]
    soundfile.write(path, long, 16_000, **dict(format='OGG', subtype='OPUS') if ending == 'opus' else {})
    whole = read_sound(path)[0]
    for start in (0, 1, 7777, 59_000, 59_999):
        assert torch.equal(read_sound(path, start, 500)[0], whole[:, start:start + 500])


# ---- the task
def test_levels_of_every_size_stay_finite(model):
    for level in (1e-45, 1e-38, 1e-20, 1., 999.):
        out = reconstruct(model, VOICE[None, :900]*level, 8000)
        assert out.isfinite().all() and out.abs().max() < 2*level + 1e-6
    for loud in (1001., 3e38):
        about = describe_clip(torch.tensor([[loud, -loud, loud]]), 8000)
        assert np.isfinite([about['mean'], about['peak']]).all() and about['peak'] > loud
        refused(lambda: reconstruct(model, torch.tensor([[loud, -loud]]), 8000), '1000')


def test_one_sample_at_any_rate(model):
    "The window around it is not decoded where nothing is kept."
    for rate in (100, 10**6): assert reconstruct(model, torch.ones(1, 1), rate, 5).shape == (1, 5)
    out = reconstruct(model, torch.ones(1, 1)*.5, 8000, 10_000)
    assert out.shape == (1, 10_000) and (out - .5).abs().max() < 1e-6


def test_the_limit_on_samples(tmp_path, model):
    about = dict(samples=10**6, rate=8000, mean=0., peak=.5)
    assert output_length(about, 3) == 3*10**6 and count_windows(model, about) > 2000
    text = refused(lambda: output_length(about, 300), '--scale 300', '--limit samples=300000000')
    assert '134,217,728' in text
    refused(lambda: count_windows(model, about | dict(rate=1)), '--limit samples')
    refused(lambda: count_windows(model, about | dict(samples=2**27 + 1)), 'samples')
    write_sound(VOICE[:900], tmp_path/'x.wav', 100)
    with set_limits(['samples=10000']):
        refused(lambda: AudioTask(CONFIG).read(tmp_path/'x.wav'), 'x.wav', '--limit')
    assert AudioTask(CONFIG).read(tmp_path/'x.wav')[1] == 100


# ---- folders
@pytest.fixture
def mixed(tmp_path):
    "Three good sounds and three that are none: one shows in its head, two only when they are read."
    home = tmp_path/'mine'
    home.mkdir()
    for k in (0, 2, 4): write_sound(VOICE[1000*k:1000*k + 6000], home/f'{k}.wav', 8000)
    (home/'1.wav').write_text('words')
    (home/'3.wav').write_bytes(wav(floats([np.nan]*6000)))
    soundfile.write(home/'5.flac', VOICE.numpy(), 8000)
    (home/'5.flac').write_bytes((home/'5.flac').read_bytes()[:9000])
    return sorted(home.iterdir())


def test_bad_files_in_a_folder_are_named_and_left_out(mixed, caplog):
    clips = Clips(mixed, 8000, 512, name='mine')
    assert [file.name for file in clips.items] == ['0.wav', '2.wav', '3.wav', '4.wav', '5.flac']
    assert '5 of 6 sounds' in caplog.text and '1.wav' in caplog.text
    rngs = [np.random.default_rng((1, step)) for step in range(6)]
    batches = [clips.batch(4, 512, rng, [0, 2, 4, 1]) for rng in rngs]
    assert caplog.text.count('3.wav') == caplog.text.count('5.flac') == 1
    assert len(list(clips.fixed(512))) == 3
    other = pickle.loads(pickle.dumps(Clips(mixed, 8000, 512)))         # as a worker that begins at step 5
    again = other.batch(4, 512, np.random.default_rng((1, 5)), [0, 2, 4, 1])
    assert torch.equal(again, batches[5])
    assert len(other.kept) == 3 and not pickle.loads(pickle.dumps(other)).kept
    good = Clips([mixed[k] for k in (0, 2, 4, 4, 0)], 8000, 512)           # the next good one in their places
    assert torch.equal(good.batch(4, 512, np.random.default_rng((1, 5)), [0, 2, 4, 1]), again)
    local = LevelledClips(clips)
    assert all(local.window(512, np.random.default_rng(k)).isfinite().all() for k in range(9))


def test_windows_are_as_loud_as_files_are_encoded(tmp_path):
    "An offset is taken off before the level is measured."
    write_sound(torch.sin(torch.arange(4000)/9)[None]/4 + .5, tmp_path/'1.wav', 8000)
    local = LevelledClips(Clips([tmp_path/'1.wav'], 8000, 512))
    peaks = [local.window(512, np.random.default_rng(k)).abs().max() for k in range(40)]
    assert .6 < max(peaks) < .71


def test_no_good_file_ends_in_one_line(mixed):
    bad = [mixed[1], mixed[3], mixed[5]]
    refused(lambda: Clips(bad[:1], 8000, 512, name='mine'), 'mine', 'none of 1', '1.wav')
    clips = Clips(bad, 8000, 512, name='mine')
    for call in (lambda: clips.batch(1, 512, np.random.default_rng(0)), lambda: list(clips.fixed(512))):
        refused(call, 'mine', 'can be read', '3.wav')


def test_commands_on_folders_of_sounds(mixed, tmp_path, monkeypatch, capsys, model):
    monkeypatch.chdir(tmp_path)
    model.save('MODEL')
    assert main(['encode', 'mine', '-o', 'c.safetensors', '--model', 'MODEL']) == 0
    err = capsys.readouterr().err
    assert '3 of 6' in err and all(name in err for name in ('1.wav', '3.wav', '5.flac'))
    os.mkdir('none')
    mixed[1].rename('none/1.wav')
    assert main(['encode', 'none', '-o', 'd.safetensors', '--model', 'MODEL']) == 2
    assert main(['eval', 'MODEL', '--data', 'none', '--out', 'none']) == 2
    os.mkdir('empty')
    refused(lambda: source('empty', 'train', CONFIG), 'empty', '.wav')
    assert not os.path.exists('d.safetensors') and os.listdir('none') == ['1.wav']


@pytest.mark.parametrize('rate', [8000, 11_025, 44_101])
def test_a_huge_file_is_read_around_the_window(tmp_path, monkeypatch, rate):
    "The same samples as of the whole; no more than a stretch is read."
    write_sound(resampled(VOICE[:16_000], 16_000, rate), tmp_path/'x.wav', rate)
    whole = Clips([tmp_path/'x.wav'], 8000, 512).whole(tmp_path/'x.wav')
    monkeypatch.setattr(audio, 'LONG', 1000)
    clips, asked, read = Clips([tmp_path/'x.wav'], 8000, 512), [], audio.read_sound
    monkeypatch.setattr(audio, 'read_sound', lambda *of: asked.append(of[-1]) or read(*of))
    for k in range(20):
        start = int(np.random.default_rng(k).integers(clips.lengths[0] - 512 + 1))
        window = clips.view(0, 512, np.random.default_rng(k))
        assert window.shape == (1, 512) and (window[0] - whole[start:start + 512]).abs().max() < 1e-4
    assert max(asked) < 600*rate/8000 + 100 and not clips.kept
    assert (clips.view(0, 512)[0] - whole[:512]).abs().max() < 1e-4


def test_the_memory_of_a_folder_is_bounded(tmp_path, monkeypatch):
    for k in range(5): write_sound(VOICE[:2000], tmp_path/f'{k}.wav', 8000)
    monkeypatch.setattr(audio, 'KEPT', 2*4*2000)
    clips = Clips(sorted(tmp_path.iterdir()), 8000, 512)
    windows = list(clips.fixed(512))
    assert len(windows) == 5 and len(clips.kept) == 2
    assert all(window.untyped_storage().nbytes() == 4*512 for window in windows)        # not the whole clip


# ---- found by a second suite
@pytest.mark.parametrize('sound, word', [
    (torch.zeros(2, 100), 'one channel'), (torch.tensor([0., torch.inf]), 'finite'),
    (torch.tensor([[0., -torch.inf]]), 'finite'), (torch.tensor([torch.nan]), 'finite')])
def test_what_is_no_sound_is_not_written(tmp_path, sound, word):
    "Channels would stand one behind the other, and an infinite sample would be clamped to 1."
    refused(lambda: write_sound(sound, tmp_path/'a.wav', 8000), 'a.wav', word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != 'linux', reason='names are bytes only there')
@pytest.mark.parametrize('ending', ['wav', 'flac', 'ogg'])
def test_a_name_that_is_no_utf8(tmp_path, ending):
    "As an old disk or archive has it."
    path = tmp_path/os.fsdecode(b'caf\xe9.' + ending.encode())
    write_sound(VOICE, path, 16_000)
    sound, rate = read_sound(path)
    assert sound.shape == (1, 16_000) and rate == 16_000 and len(Clips([path], 8000, 512)) == 1
    path.write_bytes(path.read_bytes()[:40])
    assert os.fsdecode(b'caf\xe9') in refused(lambda: read_sound(path))


@pytest.mark.parametrize('begins', [0, 1])
def test_where_the_samples_of_an_au_begin(tmp_path, begins):
    "A head that puts its samples inside itself: a part is what stands there in the whole."
    soundfile.write(tmp_path/'a.au', VOICE[:900].numpy(), 8000, 'PCM_16')
    data = (tmp_path/'a.au').read_bytes()
    (tmp_path/'a.au').write_bytes(data[:4] + struct.pack('>I', begins) + data[8:])
    whole = read_sound(tmp_path/'a.au')[0]
    assert torch.equal(read_sound(tmp_path/'a.au', 450, 9)[0], whole[:, 450:459])
    assert torch.equal(read_sound(tmp_path/'a.au', 0, 9)[0], whole[:, :9])
