"Files of codes: tiles, windows, compressed bytes, format 1; damaged in bytes, head, notes."
import json
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from instcomp.cli import decode_command, encode_command
from instcomp.experiments import builder

NAMED = True
MODELS = {'image-cavia': '.png', 'voices-ipc': '.wav', 'photos-local': '.png'}       # of each kind of codes
LOAD = builder.load


@cache
def loaded(name): return LOAD(name, 'cpu')


def once(name, device=None): return loaded(Path(name).name)


@cache
def bases():
    "(head, data) of a file of each kind, and the folder of their originals."
    home, found = Path(tempfile.mkdtemp()), []
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (18, 30, 3), np.uint8)).save(home/'a.png')
    Image.fromarray(rng.integers(0, 256, (33, 9, 3), np.uint8)).save(home/'b.png')
    for name in 'ab': soundfile.write(home/f'{name}.wav', rng.normal(size=2000)*.1, 16000)
    for model, ending in MODELS.items():
        path = home/f'{model}.safetensors'
        encode_command([str(home/f'a{ending}'), str(home/f'b{ending}')], path, model, 0, None, 'cpu')
        data = path.read_bytes()
        n, = struct.unpack('<Q', data[:8])
        found.append((json.loads(data[8:8 + n]), data[8 + n:]))
    return found


VALUES = [None, True, False, 0, 1, -1, 18, 30, 2000, 16000, 99999, 10**9, 10**30, .5, -.5, 1e-9, 1e308,
          float('nan'), float('inf'), '', 'a', 'a.png', '../../x', 'C:\\x\\y', '\0', 'é'*300, '\ud800',
          'a\nb', '\x1b[2J', 'CON', 'a/', '.', '..', [], [18, 30], [30, 18], [10**5, 10**5], [1, 1],
          [2**40, 1],
          [18], [18.5, 30], ['a', 'b'], {}, {'a': 1}, [[[[[[[[[[1]]]]]]]]]]]
WORDS = ['', '0', '1', '2', '-1', '10**9', '1000000000', '99999999999', 'null', '{}', '[]', '"a"', '\0',
         'codes', 'codes 1', 'codes 3', '3', 'é'*300, '['*30000 + ']'*30000, '{"file": "a.png"}',
         '{"file": 3}', '../x', 'x/y', 'photos-ipc', 'image-ipc-tiny', 'a\nb', 'a'*64, '0'*64, '1'*5000,
         '{"file": "a.png", "height": 1e99, "width": 30}']
SHAPES = [[], [0], [1], [2, 128], [1, 64, 32], [4, 256, 8], [-1], [2**62, 4], [2**32, 2**32], [1]*100]
KEYS = ['0', '0/', '/V', '2/V', '00/V', '1/V', 'data', 'offsets', 'V', '-1/V', '0/W', '0/V/V', 'é'*300,
        '__metadata__']
TYPES = ['I64', 'U8', 'F16', 'BF16', 'F64', 'BOOL', 'F8_E4M3', 'x']


def pick(rng, some): return some[rng.integers(len(some))]


def note(rng, words):
    "One value of a signal's note is another, or absent, or new."
    key = str(rng.integers(2))
    about = json.loads(words[key])
    name = pick(rng, [*about, 'file', 'size', 'more'])
    if rng.random() < .1: about.pop(name, None)
    elif isinstance(about.get(name), (int, float)) and rng.random() < .5:
        about[name] = type(about[name])(about[name]*pick(rng, [0, 2, -1, 10, 1000, 1e-9, .5, 1e12]))
    else: about[name] = pick(rng, VALUES)
    words[key] = json.dumps(about)


def word(rng, words):
    "A word of the head is another, or absent, or new."
    what = pick(rng, [*words, 'about', '2', 'x'])
    if rng.random() < .2: words.pop(what, None)
    else: words[what] = pick(rng, WORDS)


def tensor(rng, head, data):
    "A tensor's key, type, shape or place."
    key = pick(rng, [key for key in head if key != '__metadata__'])
    what = rng.integers(5)
    if what == 0: head[pick(rng, KEYS)] = head.pop(key)
    elif what == 1: head[key]['dtype'] = pick(rng, TYPES)
    elif what == 2: head[key]['shape'] = pick(rng, SHAPES)
    elif what == 3: head[key]['data_offsets'] = rng.integers(2*len(data), size=2).tolist()
    else: head.pop(key)


def numbers(rng, data):
    "Some numbers are not finite, or large, or others."
    new = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = 4*int(rng.integers(len(new)//4))
        new[at:at + 4] = struct.pack('<f', pick(rng, [np.nan, np.inf, -np.inf, 1e38, -1e30, 0., 1e-40, 5.]))
    return bytes(new)


def spans(rng, head, data):
    "The offsets of compressed signals are others; or a signal's bytes are, with the right sum."
    if 'offsets' not in head: return numbers(rng, data)
    n = head['offsets']['data_offsets'][1]
    ends = np.frombuffer(data[:n], np.int64).copy()
    if rng.random() < .4:
        ends[rng.integers(len(ends))] = pick(rng, [-1, 0, 1, 2**40, 2**63 - 1, len(data), int(ends[-1])])
        return ends.tobytes() + data[n:]
    return data[:n] + signed(rng, head, bytearray(data[n:]), ends)


def signed(rng, head, data, ends):
    "Other bytes of a compressed signal, and the sum that goes with them."
    k = int(rng.integers(2))
    size = json.loads(head['__metadata__'][str(k)]).get('size')
    whole = isinstance(size, list) and set(map(type, size)) == {int}
    shape = (192, *(-(-n//8) for n in size)) if whole else ()
    at = slice(int(ends[k]) + 2, int(ends[k + 1]))
    body = bytearray(data[at])
    for _ in range(rng.integers(1, 30)): body[rng.integers(len(body))] = rng.integers(256)
    data[at] = body
    total = zlib.crc32(body, zlib.crc32(repr(shape).encode())) & 0xffff
    data[at.start - 2:at.start] = total.to_bytes(2, 'little')
    return bytes(data)


def old(head):
    "The words of format 1."
    words = head['__metadata__']
    kept = dict(instcomp='codes 1', about=f'[{words["0"]}, {words["1"]}]')
    return head | dict(__metadata__=kept | {key: words[key] for key in ('model', 'sha256') if key in words})


def closed(head, data):
    text = json.dumps(head).encode()
    text += b' '*(-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + data


def damaged(rng, whole):
    "Any bytes are others, absent, twice there, or behind the end."
    new = bytearray(whole)
    what, at = rng.integers(5), int(rng.integers(len(new)))
    if what == 0:
        for _ in range(rng.integers(1, 8)): new[rng.integers(min(len(new), 600))] = rng.integers(256)
    elif what == 1:
        for _ in range(rng.integers(1, 8)): new[rng.integers(len(new))] = rng.integers(256)
    elif what == 2: new = new[:at]
    elif what == 3: new += rng.bytes(int(rng.integers(1, 100)))
    else: new[:8] = struct.pack('<Q', int(pick(rng, [0, 1, 2**63, 2**40, len(new), 100])))
    return bytes(new)


def make(rng, folder):
    "A file of codes in the folder: right, nearly right or wild."
    path = folder/pick(rng, ['c.safetensors', 'c d.safetensors', 'ü.codes'])
    if rng.random() < .02:
        path.write_bytes(rng.bytes(int(rng.integers(200))))
        return path
    head, data = pick(rng, bases())
    head = json.loads(json.dumps(head))
    if rng.random() < .6: note(rng, head['__metadata__'])
    if rng.random() < .3: data = pick(rng, [numbers, lambda rng, data: spans(rng, head, data)])(rng, data)
    if 'offsets' not in head and rng.random() < .2: head = old(head)
    if rng.random() < .2: word(rng, head['__metadata__'])
    if rng.random() < .2: tensor(rng, head, data)
    whole = closed(head, data)
    path.write_bytes(damaged(rng, whole) if rng.random() < .2 else whole)
    return path


def use(path):
    "Decode the file as `instcomp decode` does; what comes out are pictures or sounds that can be read."
    builder.load = once
    out = path.parent/'decoded'
    out.mkdir()
    decode_command(path, out, None, 1, None, 'cpu')
    made = [*out.iterdir()]
    assert len(made) == 2, made
    for file in made:
        if file.suffix == '.png': assert min(Image.open(file).size) > 0
        else: assert np.isfinite(soundfile.read(file)[0]).all()


def command(path, out): return ['decode', path, '-o', out, '--device', 'cpu']
