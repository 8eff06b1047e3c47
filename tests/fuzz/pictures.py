"Pictures and folders of them: damaged bytes, lying sizes, metadata of any state, other names."
import io
import os
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from instcomp.data.datasets import source
from instcomp.data.images import check_image, read_image
from instcomp.limits import set_limits

NAMED = True
LIMIT = 'pixels=4e6'
MODES = dict(png='1 L LA P PA RGB RGBA I;16', jpg='L RGB CMYK', tif='1 L LA P RGB RGBA CMYK LAB I;16 I F',
             gif='L P', webp='RGB RGBA', bmp='1 L P RGB', ppm='RGB', pgm='L I;16', pbm='1', avif='RGB RGBA',
             jp2='L RGB RGBA I;16')
NAMES = ['.png', '.jpg', '.JPG', '.jfif', '.jpe', '.tif', '.TIFF', '.gif', '.webp', '.bmp', '.ppm', '.pgm',
         '.avif', '.jp2', '.j2k', '.heic', '.png.png', '']
WAYS = dict(tif=[{}, *(dict(compression=name) for name in ('tiff_lzw', 'tiff_deflate', 'packbits')),
                 dict(big_tiff=True)],
            jpg=[{}, dict(progressive=True), dict(quality=40, subsampling=0), dict(restart_marker_blocks=1)],
            webp=[{}, dict(lossless=True)], avif=[dict(speed=10)], png=[{}, dict(optimize=True)])
KIND = dict(jpg='JPEG', tif='TIFF', jp2='JPEG2000', pgm='PPM', pbm='PPM')


def pick(rng, some): return some[int(rng.integers(len(some)))]


def picture(rng, mode):
    "A PIL picture of a mode."
    shape = tuple(int(n) for n in rng.integers(1, 24, 2))
    grey = rng.integers(0, 256, shape)
    if mode == 'I;16': return Image.fromarray((257*grey).astype(np.uint16))
    if mode == 'I': return Image.fromarray((257*grey).astype(np.int32))
    if mode == 'F': return Image.fromarray((grey/255).astype(np.float32))
    colour = Image.fromarray(rng.integers(0, 256, (*shape, 4), np.uint8), 'RGBA')
    if mode in ('LA', 'PA'): return colour.convert('LA').convert(mode)
    if mode == 'LAB': return Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8), 'LAB')
    return colour if mode == 'RGBA' else colour.convert('RGB').convert(mode)


def saved(rng, ending, mode):
    "Bytes of a file, in one of the ways that Pillow can write it."
    own = pick(rng, WAYS.get(ending, [{}])) if mode != 'I;16' else {}
    image, out = picture(rng, mode), io.BytesIO()
    many = ending in ('gif', 'webp', 'png', 'tif') and own == {} and mode in ('P', 'L', 'RGB')
    more = dict(save_all=True, append_images=[image]) if many and rng.random() < .2 else {}
    kind = KIND.get(ending, ending.upper())
    image.save(out, kind, **own, **more)
    return out.getvalue()


def deep_tiff(rng):
    "A TIFF of 16-bit colours, grey with alpha, floats or wide numbers, in one strip."
    kind, bits = int(pick(rng, [1, 1, 1, 1, 2, 3])), int(pick(rng, [16, 16, 16, 32, 64, 12]))
    if kind == 3: bits = 32
    samples, (h, w) = int(rng.integers(1, 6)), (int(n) for n in rng.integers(1, 9, 2))
    grey = rng.random() < .3 or samples < 3
    numbers = rng.random((h, w, samples)) if kind == 3 else rng.integers(0, 2**16, (h, w, samples))
    type = '<f4' if kind == 3 else {12: '<u2', 16: '<u2', 32: '<u4', 64: '<f8'}[bits]
    packed, apart, coded = rng.random() < .5, rng.random() < .15, int(pick(rng, [1]*6 + [2, 3]))
    body = numbers.astype(type).tobytes()
    body = zlib.compress(body) if packed else body
    extra = {338: int(rng.integers(0, 3))} if samples > (1 if grey else 3) else {}
    rows = {256: w, 257: h, 259: 8 if packed else 1, 262: 1 if grey else 2, 277: samples, 278: h,
            279: len(body), 284: 2 if apart else 1, 317: coded, 339: kind, 258: bits, 273: 0, **extra}
    at = 8 + 2 + 12*len(rows) + 4
    entries = {tag: struct.pack('<HHII', tag, 4, 1, value) for tag, value in rows.items()}
    entries[273] = struct.pack('<HHII', 273, 4, 1, at + 2*samples)
    if samples > 2: entries[258] = struct.pack('<HHII', 258, 3, samples, at)
    elif samples == 2: entries[258] = struct.pack('<HHIHH', 258, 3, 2, bits, bits)
    head = b'II*\0' + struct.pack('<IH', 8, len(rows)) + b''.join(entries[tag] for tag in sorted(entries))
    return head + bytes(4) + struct.pack(f'<{samples}H', *[bits]*samples) + body


@cache
def bases():
    "(ending, bytes) of small valid files of every kind."
    rng, made = np.random.default_rng(0), []
    for ending, modes in MODES.items():
        for mode in modes.split():
            for _ in range(4):
                try: made.append((ending, saved(rng, ending, mode)))
                except (OSError, ValueError, KeyError): continue       # not a mode of this Pillow's
    return made + [('tif', deep_tiff(rng)) for _ in range(40)]


# ---- damage
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 1000, 4000, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


def flipped(rng, data):
    "Some bytes, mostly of the head, are others."
    new = bytearray(data)
    room = min(len(new), int(pick(rng, [40, 200, 10**9])))
    for _ in range(int(rng.integers(1, 8))): new[rng.integers(room)] = rng.integers(256)
    return bytes(new)


def numbered(rng, data):
    "A number in the head is another, often a large one."
    new, form = bytearray(data), pick(rng, ['<H', '>H', '<I', '>I'])
    size = struct.calcsize(form)
    most = min(len(new), 300) - size
    if most > 0: struct.pack_into(form, new, int(rng.integers(most)), pick(rng, NUMBERS) % 256**size)
    return bytes(new)


def cut(rng, data):
    at = int(rng.integers(len(data) + 1))
    first, last = data[:at], data[at:]
    return pick(rng, [first, first + rng.bytes(9) + last, first + last[:50]*3, data + data, first + last[1:],
                      data + bytes(1000)])


def pieces(data):
    "The chunks of a PNG, (tag, body)."
    at = 8
    while at + 8 <= len(data):
        n, = struct.unpack('>I', data[at:at + 4])
        yield data[at + 4:at + 8], bytearray(data[at + 8:at + 8 + n])
        at += 12 + n


def joined(chunks):
    "Chunks with their sums."
    whole = (struct.pack('>I', len(b)) + t + bytes(b) + struct.pack('>I', zlib.crc32(t + bytes(b)))
             for t, b in chunks)
    return b'\x89PNG\r\n\x1a\n' + b''.join(whole)


TAGS = [b'eXIf', b'gAMA', b'iCCP', b'tRNS', b'PLTE', b'acTL', b'fcTL', b'fdAT', b'tEXt', b'zTXt', b'iTXt',
        b'pHYs', b'IDAT', b'IHDR', b'CgBI', b'sRGB', b'cHRM', b'tIME']


def chunked(rng, data):
    "A PNG with a chunk changed, moved, doubled or new, sums right."
    if data[:4] != b'\x89PNG' or not (chunks := list(pieces(data))): return flipped(rng, data)
    k, what = int(rng.integers(len(chunks))), rng.integers(4)
    tag, body = chunks[k]
    for at in rng.integers(len(body), size=rng.integers(1, 5)) if body else (): body[at] = rng.integers(256)
    text = [rng.bytes(int(rng.integers(40))), b'a\0\0' + zlib.compress(bytes(10**6)), exif(rng)]
    if what == 0: chunks.insert(k, (pick(rng, TAGS), pick(rng, text)))
    elif what == 1: chunks.append(chunks.pop(k))
    elif what == 2: chunks.insert(k, (tag, body))
    return joined(chunks)


SAID = [256, 258, 259, 262, 273, 274, 277, 279, 282, 284, 317, 320, 322, 338, 339, 700, 34665, 34675]


def entries(rng, data):
    "A TIFF with entries of other types, counts and values."
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    if order is None or data[2:4] not in (b'*\0', b'\0*'): return numbered(rng, data)
    new = bytearray(data)
    at, = struct.unpack_from(order + 'I', new, 4) if len(data) > 7 else (len(data),)
    n = struct.unpack_from(order + 'H', new, at)[0] if at + 2 < len(data) else 0
    n = min(n, (len(data) - at - 2)//12)
    if n < 1: return numbered(rng, data)                             # an earlier damage took the directory
    for _ in range(int(rng.integers(1, 4))):
        place = at + 2 + 12*int(rng.integers(n))
        what = rng.integers(4)
        if what == 0: struct.pack_into(order + 'H', new, place + 2, int(rng.integers(0, 20)))
        elif what == 1: struct.pack_into(order + 'I', new, place + 4, pick(rng, NUMBERS))
        elif what == 2: struct.pack_into(order + 'I', new, place + 8, pick(rng, NUMBERS))
        else: struct.pack_into(order + 'H', new, place, pick(rng, SAID))
    return bytes(new)


CAMERA = [274, 282, 283, 296, 34665, 34853, 40965, 37500, 513, 514, 259, 256, 700, 45056, 271]


def exif(rng):
    "EXIF of any state."
    order, rows = pick(rng, '<>'), []
    for _ in range(int(rng.integers(8))):
        value = struct.pack(order + 'HH', int(rng.integers(10)), 0) if rng.random() < .5 else rng.bytes(4)
        count = pick(rng, [*[1]*9, *NUMBERS])
        rows.append(struct.pack(order + 'HHI', pick(rng, CAMERA), int(rng.integers(0, 15)), count) + value)
    mark = b'II*\0' if order == '<' else b'MM\0*'
    out = mark + struct.pack(order + 'IH', 8, len(rows)) + b''.join(rows) + bytes(4)
    out += rng.bytes(int(rng.integers(40)))
    if rng.random() < .2: out = out[:int(rng.integers(len(out)))]
    return pick(rng, [b'Exif\0\0', b'Exif\0\0', b'Exif\0\xff', b'']) + out


def noted(rng, data):
    "Metadata that change no pixel: segments of a JPEG, chunks of a PNG. None for other kinds."
    body = pick(rng, [exif(rng), b'http://ns.adobe.com/xap/1.0/\0' + rng.bytes(30), b'JFIF\0' + rng.bytes(9),
                      b'ICC_PROFILE\0' + rng.bytes(20), b'MPF\0' + exif(rng)[6:],
                      b'Photoshop 3.0\0' + rng.bytes(30), b'JFXX\0' + rng.bytes(9), b'8BIM' + rng.bytes(40),
                      rng.bytes(int(rng.integers(60)))])
    if data[:2] == b'\xff\xd8':
        code = pick(rng, [0xe0, 0xe1, 0xe1, 0xe1, 0xe2, 0xed, 0xfe, 0xef])
        return data[:2] + struct.pack('>BBH', 255, code, len(body) + 2) + body + data[2:]
    if data[:4] != b'\x89PNG': return None
    tag = pick(rng, [b'eXIf', *[b'eXIf', b'tEXt', b'zTXt', b'iTXt', b'iCCP', b'pHYs', b'gAMA', b'caBX']])
    first, *others = pieces(data)
    return joined([first, (tag, body), *others])


DAMAGE = [flipped, flipped, numbered, numbered, cut, chunked, chunked, entries, entries]


def content(rng):
    "Ending and bytes of a file; those before its metadata changed, None where more did."
    ending, data = pick(rng, bases())
    what = rng.random()
    if what < .15: return ending, data, data
    if what < .5 and (new := noted(rng, data)) is not None: return ending, new, data
    if what < .52: return ending, rng.bytes(int(rng.integers(100))), None
    for _ in range(int(rng.integers(1, 3))): data = pick(rng, DAMAGE)(rng, data or b'\0')
    return ending, data, None


# ---- folders
def odd(rng, path):
    "What is no plain file, under the name of one."
    what = rng.integers(6)
    if what == 0: os.mkfifo(path)
    elif what == 1: path.symlink_to(path)
    elif what == 2: path.symlink_to(path.parent)
    elif what == 3: path.symlink_to('/dev/zero')
    elif what == 4: path.mkdir()
    else: path.touch()


def folder_of(rng, home):
    "A folder of a few pictures, damaged or not, and other things."
    home.mkdir()
    if rng.random() < .15: (home/pick(rng, ['train', 'test', '.hidden', 'a\nb'])).mkdir()
    places = [home, *home.iterdir()]
    for k in range(int(rng.integers(0, 6))):
        ending, data, _ = content(rng)
        stem = pick(rng, ['a', 'IMG_1', '._a', 'ü', 'x\udc80', 'a b', 'Thumbs', 'a\nb', '\x1b[2J'])
        last = pick(rng, [f'.{ending}', f'.{ending.upper()}', *NAMES[:3], '.db', '.txt'])
        path = pick(rng, places)/f'{stem}{k}{last}'
        if rng.random() < .2: odd(rng, path)
        else: path.write_bytes(data)
    return home


def make(rng, folder):
    "A picture, or a folder; with it the bytes of a picture that must look the same, or None."
    if rng.random() < .2: return folder_of(rng, folder/'mine'), None
    ending, data, same = content(rng)
    other = rng.random() < .15
    path = folder/(pick(rng, ['a', 'IMG 1', 'ü']) + (pick(rng, NAMES) if other else f'.{ending}'))
    path.write_bytes(data)
    return path, same


@cache
def beside(): return Path(tempfile.mkdtemp())/'same'


def turns(image):
    "The eight ways to lay a picture down."
    for k in range(4):
        turned = np.rot90(image, k, (1, 2))
        yield from (turned, turned[:, ::-1])


def one(path, same):
    image = read_image(path)
    check_image(path)                                                # what can be read passes the check
    assert image.ndim == 3 and len(image) == 3 and 0 <= image.min() and image.max() <= 1, image.shape
    grey = read_image(path, 'L')
    assert grey.shape == (1, *image.shape[1:]) and 0 <= grey.min() and grey.max() <= 1
    if same is None: return
    beside().write_bytes(same)
    was = read_image(beside()).numpy()
    assert any(np.array_equal(turned, image.numpy()) for turned in turns(was)), 'metadata changed its pixels'


def use(case):
    "Read a picture as `instcomp encode` does, or draw from a folder as training and the score do."
    path, same = case
    with set_limits([LIMIT]):
        if path.is_file(): return one(path, same)
        train, test = source(str(path), 'train'), source(str(path), 'test')
        views = train.batch(3, 8, np.random.default_rng(0), [0, len(train) - 1, 0])
        assert views.shape == (3, 3, 8, 8) and views.isfinite().all()
        again = source(str(path), 'train').batch(1, 8, np.random.default_rng(0), [0])
        assert (again[0] == views[0]).all()                          # whatever was read before
        for view in test.fixed(8, 5): assert view.shape == (3, 8, 8) and view.isfinite().all()


def command(case, out):
    path = case[0]
    how = ['--model', 'image-cavia', '--device', 'cpu', '--limit', LIMIT]
    return ['encode', path, '-o', out/'codes.safetensors', *how] if path.is_dir() else \
        ['reconstruct', path, '-o', out/'a.png', *how]
