"Sound files of every kind, damaged in bytes, heads, claims and values; folders that hold such files."
import logging
import os
import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from instcomp.data.audio import LOUDEST, RATES, SOUND_ENDINGS, Clips, read_sound, write_sound
from instcomp.data.batches import list_files
from instcomp.experiments.builder import load
from instcomp.tasks.registry import kind_of, task_of

NAMED = True
KINDS = [('wav', 'PCM_16'), ('wav', 'PCM_U8'), ('wav', 'PCM_24'), ('wav', 'FLOAT'), ('wav', 'DOUBLE'),
         ('wav', 'ULAW'), ('wav', 'IMA_ADPCM'), ('wav', 'MS_ADPCM'), ('flac', 'PCM_16'), ('flac', 'PCM_24'),
         ('ogg', 'VORBIS'), ('ogg', 'OPUS'), ('mp3', 'MPEG_LAYER_III'),
         ('aiff', 'PCM_16'), ('aiff', 'FLOAT'), ('au', 'PCM_16'),
         ('caf', 'PCM_16'), ('caf', 'ALAC_16'), ('w64', 'PCM_16'), ('rf64', 'PCM_16')]
NUMBERS = [0, 1, 2, 255, 1024, 1025, 44_101, 65_535, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
CHUNKS = [b'cue ', b'LIST', b'smpl', b'bext', b'PEAK', b'fact', b'cart', b'id3 ', b'data', b'JUNK', b'fmt ']
ENDINGS = [*SOUND_ENDINGS, '', '.m4a', '.mp4', '.raw', '.txt', '.WAV', '.Ogg', '.xyz']
SIZE, LIMIT = 512, 4000                                   # of a window; samples that a model is asked for
logging.getLogger('instcomp').addHandler(logging.NullHandler())


@cache
def bases():
    "(ending, bytes) of a small whole file of each kind, mono and stereo."
    rng, found, home = np.random.default_rng(0), [], Path(tempfile.mkdtemp())
    for ending, subtype in KINDS:
        for channels, n, rate in ((1, 900, 8000), (2, 3000, 16_000)):
            path, wave = home/f'x.{ending}', rng.normal(size=(n, channels))*.1
            soundfile.write(path, wave, rate, subtype, format=ending.upper())
            found.append((f'.{ending}', path.read_bytes()))
    return found


@cache
def model(): return load('voices-ipc', 'cpu')


# ---- what may happen to the bytes of a file
def flipped(rng, data):
    "A few other bytes, most of them in the head."
    data = bytearray(data)
    for _ in range(rng.integers(1, 6) if data else 0):
        top = min(len(data), int(rng.choice([48, 200, len(data)])))
        data[rng.integers(top)] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
    return bytes(data)


def numbered(rng, data):
    "Another number somewhere in the head, of two or four bytes."
    if len(data) < 8: return data
    data, at = bytearray(data), int(rng.integers(max(1, min(len(data) - 8, 80))))
    code = str(rng.choice(['<I', '>I', '<H', '>H']))
    struct.pack_into(code, data, at, int(rng.choice(NUMBERS)) % 2**(8*struct.calcsize(code)))
    return bytes(data)


def wav_head(rng, data):
    "A field of the head of a WAV: kind, channels, rate, bytes a second, block, bits."
    at = data.find(b'fmt ')
    if at < 0 or at + 24 > len(data): return numbered(rng, data)
    data, (code, place) = bytearray(data), [('<H', 8), ('<H', 10), ('<I', 12), ('<I', 16), ('<H', 20),
                                            ('<H', 22)][rng.integers(6)]
    struct.pack_into(code, data, at + place, int(rng.choice(NUMBERS)) % 2**(8*struct.calcsize(code)))
    return bytes(data)


def cut(rng, data): return data[:rng.integers(len(data) + 1)]


def chunk(rng, data):
    "A chunk that claims what it likes, in front of the others or behind them."
    size, body = int(rng.choice([*NUMBERS, 64])), rng.bytes(int(rng.integers(70)))
    new = CHUNKS[rng.integers(len(CHUNKS))] + struct.pack('<I', size) + body
    at = int(rng.choice([12, 36, len(data)]))
    return data[:at] + new + data[at:]


def joined(rng, data):
    "Two files, or something in front of a file."
    other = bases()[rng.integers(len(bases()))][1]
    front = [data, other, b'ID3\4\0\0\0\0\0\x7f' + bytes(127), rng.bytes(100), bytes(1000)][rng.integers(5)]
    return front + data if rng.random() < .5 else data + other


def values(rng, data):
    "A WAV of numbers that no sound has, or hardly any."
    n, channels = int(rng.choice([0, 1, 2, 513, 2000])), int(rng.choice([1, 2, 3, 100, 1000]))
    wave = rng.normal(size=n*channels)*10.**rng.choice([-45, -38, -8, 0, 0, 2, 4, 38, 300])
    odd = [np.nan, np.inf, -np.inf, 3.4e38, 1e-45]
    if n and rng.random() < .5: wave[rng.integers(len(wave))] = rng.choice(odd)
    code, bits = [('<f4', 32), ('<f8', 64)][rng.integers(2)]
    rate = int(rng.choice([0, 1, 99, 100, 4000, 8000, 11_025, 44_101, 999_983, 10**6, 2**31 - 1, 2**32 - 1]))
    with np.errstate(over='ignore'): body = wave.astype(code).tobytes()
    block = channels*bits//8
    head = struct.pack('<HHIIHH', 3, channels, rate, rate*block % 2**32, block % 2**16, bits)
    return b'RIFF' + struct.pack('<I', 36 + len(body)) + b'WAVEfmt \x10\0\0\0' + head + \
        b'data' + struct.pack('<I', len(body)) + body


def noise(rng, data): return rng.bytes(int(rng.integers(400)))


def whole(rng, data): return data


WAYS = [flipped, flipped, numbered, wav_head, cut, chunk, joined, values, values, noise, whole]


def placed(rng, folder, name):
    "One file, its bytes damaged once or twice; seldom something that is no file."
    ending, data = bases()[rng.integers(len(bases()))]
    for _ in range(rng.integers(1, 3)): data = WAYS[rng.integers(len(WAYS))](rng, data) or b''
    path = folder/(name + (ending if rng.random() < .7 else ENDINGS[rng.integers(len(ENDINGS))]))
    odd = rng.random()
    if odd < .01: os.mkfifo(path)
    elif odd < .02: path.symlink_to('/dev/zero')
    elif odd < .03: path.mkdir()
    elif odd < .04: path.symlink_to(folder/'nowhere')
    else: path.write_bytes(data)
    return path


def make(rng, folder):
    "A file, or a folder of a few."
    if rng.random() < .85: return placed(rng, folder, 'sound')
    home = folder/'many'
    home.mkdir()
    for k in range(rng.integers(1, 6)): placed(rng, home, str(k))
    return home


# ---- what the command does with it
def use(case):
    "As `reconstruct` and `train` do; what comes back must be a sound."
    net = model()
    if case.is_dir() and case.name == 'many': return used_folder(case)
    if kind_of(case).weights != 'speech-local': raise ValueError(f'{case.name}: not of sounds')
    task = task_of(net.config)
    sound, rate = task.read(case)
    about = task.describe((sound, rate))
    assert sound.dtype == torch.float32 and sound.shape[0] == 1 and sound.shape[1] > 0
    assert sound.isfinite().all() and sound.abs().max() <= LOUDEST and RATES[0] <= rate <= RATES[1]
    assert all(np.isfinite(v) for v in about.values())
    n = sound.shape[1]
    assert torch.equal(read_sound(case, n//2, 9)[0], sound[:, n//2:n//2 + 9])
    if max(n, n*8000//rate) > LIMIT: return
    made, _ = task.reconstruct(net, (sound, rate))
    assert made.shape == sound.shape and made.isfinite().all()
    write_sound(made, case.with_name('out.wav'), rate)
    assert read_sound(case.with_name('out.wav'))[0].shape == made.shape


def used_folder(case):
    clips = Clips(list_files(case, SOUND_ENDINGS), 8000, SIZE, name=str(case))
    first, again = (clips.batch(3, SIZE, np.random.default_rng(1), [0, 1 % len(clips), 0]) for _ in range(2))
    fresh = Clips(list_files(case, SOUND_ENDINGS), 8000, SIZE, name=str(case))
    list(fresh.fixed(SIZE, 8))
    assert first.shape == (3, 1, SIZE) and first.isfinite().all() and torch.equal(first, again)
    assert torch.equal(first, fresh.batch(3, SIZE, np.random.default_rng(1), [0, 1 % len(clips), 0]))


def command(case, out): return ['reconstruct', str(case), '-o', str(out/'out.wav'), '--model', 'voices-ipc']
