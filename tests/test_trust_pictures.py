"Pictures as people, other tools, broken disks and attackers have them; folders that hold good and bad ones."
import io
import json
import os
import struct
import subprocess
import sys
import textwrap
import types
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from instcomp import cli
from instcomp.data import images
from instcomp.data.batches import Batches, Folder, PhotoCrops, found_files, split_files
from instcomp.data.datasets import evaluation_images, source
from instcomp.data.images import check_image, read_image, resize, write_image
from instcomp.limits import LIMITS, set_limits
from instcomp.tasks.gan import FolderImages
from instcomp.tasks.image import output_shape

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 14, 4), dtype=np.uint16)
UPRIGHT = [lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1],
           lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].swapaxes(0, 1),
           np.rot90]                                                     # what the eight orientations mean


def saved(kind, picture=None, **options):
    "Bytes of a file of a kind."
    (picture or Image.fromarray(PIXELS)).save(out := io.BytesIO(), kind, **options)
    return out.getvalue()


def put(path, data):
    path.write_bytes(data)
    return path


def line(call, *words, error=(ValueError, OSError)):
    "The one line that a call is refused with."
    with pytest.raises(error) as caught: call()
    text = str(caught.value)
    assert '\n' not in text and all(word in text for word in words), text
    return text


def bits(path):
    "What is read, (H, W, 3) in 8 bits."
    return read_image(path).mul(255).round().byte().permute(1, 2, 0).numpy()


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(size, rows=b'', depth=8, kind=2, more=b''):
    head = struct.pack('>IIBBBBB', *size, depth, kind, 0, 0, 0)
    body = chunk(b'IHDR', head) + more + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + body


def png16(values, kind, more=b''):
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    return png((values.shape[1], values.shape[0]), rows, 16, kind, more)


def tiff(values, photometric, order='<', predictor=1, tile=0, **tags):
    "A TIFF of (H, W, C) numbers: a strip, or tiles across and down; more entries by their number, as t338=2."
    h, w, n = values.shape
    data = values.astype(values.dtype.newbyteorder(order))
    bits, kind = 8*values.dtype.itemsize, dict(u=1, i=2, f=3)[values.dtype.kind]
    parts = [data]
    if tile:
        wide = np.pad(data, ((0, -h % tile), (0, -w % tile), (0, 0)))
        parts = [wide[y:y + tile, x:x + tile] for y in range(0, h, tile) for x in range(0, w, tile)]
    if predictor == 2:
        steps = [np.diff(p, axis=1, prepend=p[:, :1]*0).astype(p.dtype) for p in parts]
        parts = [s.astype(p.dtype) for s, p in zip(steps, parts)]
    parts = [zlib.compress(p.tobytes()) if predictor == 2 else p.tobytes() for p in parts]
    at = np.cumsum([8, *map(len, parts)])
    rows = {256: [w], 257: [h], 258: [bits]*n, 259: [8 if predictor == 2 else 1], 262: [photometric],
            277: [n], 317: [predictor], 339: [kind]*n, (324 if tile else 273): list(at[:-1]),
            (325 if tile else 279): list(map(len, parts))}
    rows |= {322: [tile], 323: [tile]} if tile else {}
    rows |= {int(key[1:]): [value] for key, value in tags.items()}
    body, late, entries = int(at[-1]), b'', []
    for tag in sorted(rows):
        raw = struct.pack(f'{order}{len(rows[tag])}I', *rows[tag])
        if len(raw) > 4: raw, late = struct.pack(order + 'I', body + 6 + 12*len(rows) + len(late)), late + raw
        entries.append(struct.pack(order + 'HHI', tag, 4, len(rows[tag])) + raw)
    mark = b'II*\0' if order == '<' else b'MM\0*'
    return mark + struct.pack(order + 'I', body) + b''.join(parts) + struct.pack(order + 'H', len(rows)) + \
        b''.join(entries) + bytes(4) + late


# ---- metadata
def exif(turn, *others, order='<', rest=bytes(20)):
    "EXIF with an orientation and entries (tag, type, count, number) of any kind."
    rows = [(274, 3, 1, turn if order == '<' else turn << 16), *others]
    mark = b'II*\0' if order == '<' else b'MM\0*'
    body = b''.join(struct.pack(order + 'HHII', *row) for row in rows)
    return b'Exif\0\0' + mark + struct.pack(order + 'IH', 8, len(rows)) + body + rest


BAD = {'resolution in letters': exif(6, (282, 2, 4, 0x697032), (296, 2, 1, 90)),
       'big-endian': exif(6, order='>'),
       'a place outside': exif(6, (34665, 4, 1, 2**32 - 1)), 'a place in itself': exif(6, (34665, 4, 1, 8)),
       'numbers without end': exif(6, (282, 5, 2**32 - 1, 60)), 'an unknown type': exif(6, (700, 99, 7, 7)),
       'cut': exif(6, (282, 5, 1, 200), rest=b''), 'a maker': exif(6, (37500, 7, 900, 26)),
       'divided by zero': exif(6, (282, 5, 1, 38), rest=bytes(40))}
UNKNOWN = {'empty': b'Exif\0\0', 'no order': b'Exif\0\0XX*\0' + bytes(30), 'turn 0': exif(0),
           'turn 9': exif(9), 'no directory': b'Exif\0\0II*\0\xff\xff\xff\x7f', 'short': b'Exif\0\0II*',
           'garbage': b'Exif\0\0' + bytes(99)}


def segment(code, body): return struct.pack('>BBH', 255, code, len(body) + 2) + body


def behind_head(data, new):
    "A PNG with a chunk more."
    return data[:33] + new + data[33:]


def with_exif(kind, said):
    if kind == 'JPEG':
        data = saved('JPEG', quality=100, subsampling=0)
        return data[:2] + segment(0xe1, said) + data[2:]
    if kind == 'PNG': return behind_head(saved('PNG'), chunk(b'eXIf', said.removeprefix(b'Exif\0\0')))
    return saved(kind, lossless=True, exif=said)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('state', [*BAD, *UNKNOWN])
def test_exif_of_any_state_is_harmless(tmp_path, kind, state):
    wanted = bits(put(tmp_path/'plain', with_exif(kind, UNKNOWN['garbage'])))
    seen = bits(put(tmp_path/'x', with_exif(kind, (BAD | UNKNOWN)[state])))
    assert check_image(tmp_path/'x') and np.array_equal(seen, UPRIGHT[5](wanted) if state in BAD else wanted)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'TIFF packbits', 'AVIF'])
def test_every_orientation_of_every_kind(tmp_path, kind):
    options = dict(WEBP=dict(lossless=True), AVIF=dict(quality=100, subsampling='4:4:4', speed=10))
    kind, *way = kind.split()
    own = options.get(kind, {}) | (dict(compression=way[0]) if way else {})
    whole = bits(put(tmp_path/'x', saved(kind, **own)))
    for turn in range(1, 9):
        said = Image.Exif()
        said[274] = turn
        seen = bits(put(tmp_path/'x', saved(kind, exif=said, **own)))
        assert np.array_equal(seen, UPRIGHT[turn - 1](whole)), turn


def test_orientation_in_xmp_and_in_old_text_of_png(tmp_path):
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    data = saved('JPEG')
    wanted = UPRIGHT[5](bits(put(tmp_path/'x', data)))
    assert np.array_equal(bits(put(tmp_path/'x', data[:2] + segment(0xe1, xmp) + data[2:])), wanted)
    text = b'\nexif\n      99\n' + exif(6).hex().encode()
    for made in (chunk(b'tEXt', b'Raw profile type exif\0' + text),
                 chunk(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(text)),
                 chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>6</tiff:Orientation>')):
        path = put(tmp_path/'x', behind_head(saved('PNG'), made))
        assert np.array_equal(bits(path), UPRIGHT[5](PIXELS))


SEGMENTS = [(0xe0, b'JFIF\0'), (0xe0, b'JFXX\0\x10'), (0xe1, b'http://ns.adobe.com/xap/1.0/\0<'),
            (0xe2, b'MPF\0II*\0'), (0xe2, b'MPF\0MM\0*' + b'\xff'*40), (0xe2, b'ICC_PROFILE\0\1\2x'),
            (0xe2, b'FPXR\0'), (0xed, b'Photoshop 3.0'), (0xed, b'Photoshop 3.0\x008BIM\4\x04' + b'\xff'*20),
            (0xfe, b''), (0xee, b'Ducky'), (0xe1, b'Exif\0\0')]
CHUNKS = [(b'iCCP', b'x\0\0nonsense'), (b'pHYs', b'\1'), (b'gAMA', b''), (b'cHRM', b'\0'), (b'sRGB', b''),
          (b'tIME', b'x'), (b'zTXt', b'a\0\0' + zlib.compress(bytes(2**24))), (b'iTXt', b'\xff\0\1\0'),
          (b'tEXt', b'\0'), (b'acTL', b'\0'), (b'fcTL', b''), (b'eXIf', b'MM'), (b'sPLT', b'\0'),
          (b'qqqq', b''), (b'iCCP', b'\0'*3 + zlib.compress(bytes(2**23)))]


def test_no_other_metadata_can_spoil_a_picture(tmp_path):
    data = saved('JPEG')
    wanted = bits(put(tmp_path/'x', data))
    for code, body in SEGMENTS:
        seen = bits(put(tmp_path/'x', data[:2] + segment(code, body) + data[2:]))
        assert np.array_equal(seen, wanted), body
    data = saved('PNG')
    for kind, body in CHUNKS:
        assert np.array_equal(bits(put(tmp_path/'x', behind_head(data, chunk(kind, body)))), PIXELS), kind
    broken = chunk(b'tEXt', b'a\0b')[:-1] + b'!'                         # its sum is wrong
    assert np.array_equal(bits(put(tmp_path/'x', behind_head(data, broken))), PIXELS)


@pytest.mark.parametrize('tag', [282, 283, 296, 305, 306, 270, 34665, 34853, 33723, 34377, 700])
def test_no_entry_of_a_tiff_but_the_needed_can_spoil_it(tmp_path, tag):
    for order in '<>':
        data = tiff(PIXELS, 2, order, **{f't{tag}': 2**32 - 1})
        assert np.array_equal(bits(put(tmp_path/'x', data)), PIXELS)
        at = data.index(struct.pack(order + 'HHI', tag, 4, 1))         # as letters, or of no known type
        for kind in (2, 5, 12, 99):
            new = data[:at + 2] + struct.pack(order + 'H', kind) + data[at + 4:]
            assert np.array_equal(bits(put(tmp_path/'x', new)), PIXELS), kind


def test_exif_inside_an_avif(tmp_path):
    said = Image.Exif()
    said[274], said[282] = 6, 72
    data = saved('AVIF', exif=said, quality=100, speed=10)
    wanted, at = bits(put(tmp_path/'x', data)), data.rindex(b'*\0\0\0\x08')
    for rest in (b'\xff'*8, bytes(8)):
        new = data[:at + 5] + rest + data[at + 13:]
        assert np.array_equal(bits(put(tmp_path/'x', new)), wanted)


# ---- precision
DEEP_PNG = [(0, DEEP[..., :1]), (2, DEEP[..., :3]), (4, DEEP[..., :2]), (6, DEEP)]


def on_white(values, colours, alpha):
    values = values/65535
    seen, cover = values[..., :colours], values[..., alpha:] if alpha else 1
    seen = seen*cover + 1 - cover
    return np.broadcast_to(seen, (*values.shape[:2], 3))


def assert_reads(path, wanted, room=1e-6):
    seen = read_image(path).permute(1, 2, 0).numpy()
    assert seen.shape == wanted.shape and np.abs(seen - wanted).max() <= room


@pytest.mark.parametrize('kind, values', DEEP_PNG)
def test_png_of_16_bits(tmp_path, kind, values):
    n = values.shape[2]
    wanted = on_white(values, 3 if n > 2 else 1, 0 if n % 2 else n - 1)
    assert_reads(put(tmp_path/'x', png16(values, kind)), wanted)


@pytest.mark.parametrize('kind, values', DEEP_PNG[:2])
def test_png_of_16_bits_with_one_transparent_colour(tmp_path, kind, values):
    clear = chunk(b'tRNS', values[4, 7].astype('>u2').tobytes())
    wanted = on_white(values, values.shape[2], 0).copy()
    wanted[(values == values[4, 7]).all(-1)] = 1
    assert wanted[4, 7, 0] == 1
    assert_reads(put(tmp_path/'x', png16(values, kind, clear)), wanted)


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('predictor', [1, 2])
@pytest.mark.parametrize('tile', [0, 16])
def test_tiff_of_16_bits(tmp_path, order, predictor, tile):
    values = np.tile(DEEP, (3, 2, 1))                                    # more than one tile each way
    made = lambda v, kind, **tags: put(tmp_path/'x', tiff(v, kind, order, predictor, tile, **tags))
    assert_reads(made(values[..., :3], 2), on_white(values[..., :3], 3, 0))
    assert_reads(made(values, 2, t338=2), on_white(values, 3, 3))
    assert_reads(made(values, 2, t338=0), on_white(values[..., :3], 3, 0))     # the fourth is nothing known
    assert_reads(made(values[..., :2], 1, t338=2), on_white(values[..., :2], 1, 1))
    assert_reads(made(values[..., :1], 1), on_white(values[..., :1], 1, 0))
    assert_reads(made(values[..., :1], 0), 1 - on_white(values[..., :1], 1, 0))       # white is zero


def test_tiff_of_premultiplied_colours_and_of_floats(tmp_path):
    alpha, real = DEEP[..., 3:]/65535, np.float32(DEEP/65535)
    made = np.concatenate([DEEP[..., :3]*alpha, DEEP[..., 3:]], -1).round().astype(np.uint16)
    assert_reads(put(tmp_path/'x', tiff(made, 2, t338=1)), on_white(DEEP, 3, 3), 1e-5)
    assert_reads(put(tmp_path/'x', tiff(real[..., :3], 2)), real[..., :3])
    assert_reads(put(tmp_path/'x', tiff(real[..., :1], 1)), np.broadcast_to(real[..., :1], (9, 14, 3)))


def test_grey_of_12_bits(tmp_path):
    numbers = np.arange(0, 4096, 64).reshape(4, 16)
    packed = bytearray()
    for a, b in numbers.reshape(-1, 2).tolist(): packed += (a << 12 | b).to_bytes(3, 'big')
    data = tiff(np.frombuffer(bytes(packed), np.uint8).reshape(4, 24, 1), 1)
    data = data.replace(struct.pack('<HHII', 256, 4, 1, 24), struct.pack('<HHII', 256, 4, 1, 16))
    data = data.replace(struct.pack('<HHII', 258, 4, 1, 8), struct.pack('<HHII', 258, 4, 1, 12))
    assert_reads(put(tmp_path/'x', data), np.broadcast_to(numbers[..., None]/4095, (4, 16, 3)))


def test_what_would_lose_its_precision_is_refused(tmp_path):
    path = tmp_path/'x.tif'
    refuse = lambda data, *words: line(lambda: read_image(put(path, data)), 'x.tif', *words)
    refuse(tiff(DEEP, 5), '16 bits')                                                        # inks
    refuse(tiff(DEEP[..., :3], 2, t284=2), '16 bits')                                       # planes apart
    refuse(tiff(DEEP[..., :3].astype(np.uint32), 2), '32 bits')
    refuse(tiff(DEEP[..., :3].astype(np.int16), 2), '16 bits')
    refuse(tiff(np.float64(DEEP[..., :3]), 2), '64 bits')
    refuse(tiff(np.float32(DEEP[..., :3]), 2), 'outside')
    refuse(tiff(np.full((3, 3, 1), np.nan, np.float32), 1), 'outside')
    refuse(b'P3 1 1 65535 1 2 65535 ', '16 bits')
    refuse(saved('JPEG2000', Image.fromarray(PIXELS)).replace(b'\7\1\1', b'\17\1\1'), '16 bits')


@pytest.mark.parametrize('top', [65535, 1023, 300])
def test_ppm_of_two_bytes(tmp_path, top):
    values = DEEP.astype(int) % (top + 1)
    head = lambda kind: f'{kind}\n# a comment\n14 9\n{top}\n'.encode()
    assert_reads(put(tmp_path/'x', head('P6') + values[..., :3].astype('>u2').tobytes()), values[..., :3]/top)
    grey = np.broadcast_to(values[..., :1]/top, (9, 14, 3))
    assert_reads(put(tmp_path/'x', head('P5') + values[..., 0].astype('>u2').tobytes()), grey, 1/65535)
    line(lambda: read_image(put(tmp_path/'x.ppm', head('P6') + bytes(99))), 'x.ppm')


def test_jpeg_2000_of_16_bits_grey(tmp_path):
    data = saved('JPEG2000', Image.fromarray(DEEP[..., 0]), irreversible=False)
    assert_reads(put(tmp_path/'x', data), on_white(DEEP[..., :1], 1, 0))


# ---- limits
BIG = 8193                                                               # squared: over the limit


def huge():
    "Files that claim 8193 x 8193 pixels and hold a few bytes."
    jpeg, gif, bmp = saved('JPEG'), saved('GIF'), saved('BMP')
    at = jpeg.index(b'\xff\xc0') + 5
    webp = lambda kind, body: b'RIFF\0\0\0\0WEBP' + kind + struct.pack('<I', len(body)) + body + bytes(30)
    side = struct.pack('<I', BIG - 1)[:3]
    return {'PNG': png((BIG, BIG)), '1-bit PNG': png((BIG, BIG), depth=1, kind=0),
            'PPM': b'P6 8193 8193 255\n',
            'JPEG': jpeg[:at] + struct.pack('>HH', BIG, BIG) + jpeg[at + 4:],
            'GIF': gif[:6] + struct.pack('<HH', BIG, BIG) + gif[10:],
            'BMP': bmp[:18] + struct.pack('<II', BIG, BIG) + bmp[26:],
            'WebP': webp(b'VP8X', bytes(4) + side*2),
            'WebP VP8L': webp(b'VP8L', b'\x2f' + struct.pack('<I', (BIG - 1)*(2**14 + 1))),
            'WebP VP8': webp(b'VP8 ', b'\x50\0\0\x9d\1\x2a' + struct.pack('<HH', BIG, BIG)),
            'TIFF': tiff(PIXELS, 2, t256=BIG, t257=BIG),
            'deep TIFF': tiff(DEEP[..., :3], 2, t256=BIG, t257=BIG),
            'tiles': tiff(PIXELS, 2, tile=16, t322=BIG, t323=BIG),
            'JPEG 2000': saved('JPEG2000').replace(struct.pack('>II', 14, 9), struct.pack('>II', BIG, BIG))
                                          .replace(struct.pack('>II', 9, 14), struct.pack('>II', BIG, BIG))}


@pytest.mark.parametrize('kind', huge())
def test_what_claims_too_much_is_refused_before_it_is_decoded(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('decoded'))
    monkeypatch.setattr(Image.Image, 'crop', lambda self, box: pytest.fail('decoded'))
    path = put(tmp_path/'x', huge()[kind])
    for read in (read_image, check_image): line(lambda: read(path), str(path), f'--limit pixels={BIG*BIG}')


def test_the_limit_is_ours_alone_and_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 5)                    # of Pillow: refuses over 10
    path = put(tmp_path/'x.png', saved('PNG'))
    assert np.array_equal(bits(path), PIXELS) and Image.MAX_IMAGE_PIXELS == 5
    with set_limits(['pixels=100']):
        said = line(lambda: read_image(path), 'x.png', '--limit pixels=126')
        with set_limits([said.split('--limit ')[1]]): assert np.array_equal(bits(path), PIXELS)
        line(lambda: write_image(torch.zeros(3, 11, 11), tmp_path/'new.png'), 'new.png', '--limit pixels=121')
        line(lambda: resize(torch.zeros(3, 2, 20), 8), '--limit pixels=')
    assert not (tmp_path/'new.png').exists() and Image.MAX_IMAGE_PIXELS == 5
    with open(path, 'ab') as file: file.truncate(32*LIMITS['pixels'] + 32)      # without blocks on the disk
    line(lambda: read_image(path), 'x.png', '--limit pixels=')


def test_outputs_have_the_same_limit():
    assert output_shape((3024, 4032), 2) == (6048, 8064)
    said = line(lambda: output_shape((3024, 4032), 3), '--scale 3', '--limit pixels=')
    with set_limits([said.split('--limit ')[1]]): assert output_shape((3024, 4032), 3) == (9072, 12096)
    line(lambda: output_shape((9, 9), (8193, 8193)), '--size 8193x8193', '--limit pixels=')


def test_memory_for_what_is_kept_and_one_copy(tmp_path):
    "A megapixel of floats is 12 MB; beside it stands what the decoder holds, four bytes a pixel at most."
    n = 4000
    Image.new('1', (n, n), 1).save(tmp_path/'one.png')
    more = [Image.new('P', (n, n), k) for k in (4, 5)]
    Image.new('P', (n, n), 3).save(tmp_path/'frames.gif', save_all=True, append_images=more)
    colours = Image.linear_gradient('L').resize((n, n)).convert('RGB')
    colours.save(tmp_path/'turned.jpg', exif=b'Exif\0\0' + exif(6)[6:])
    colours.convert('RGBA').save(tmp_path/'clear.png', compress_level=1)
    script = f'''
        import re, torch
        from instcomp.data.images import read_image
        torch.set_num_threads(1)
        def kilobytes(key):
            return int(re.search(key + r':\\s+(\\d+)', open('/proc/self/status').read())[1])
        def peak(name):
            open('/proc/self/clear_refs', 'w').write('5')                # the peak counts from here
            before = kilobytes('VmRSS')
            assert read_image({str(tmp_path)!r} + '/' + name).numel() == 3*{n}**2
            return 1024*(kilobytes('VmHWM') - before)/{n}**2
        peak('turned.jpg')                                               # what is loaded late is loaded
        print(*(peak(name) for name in ('one.png', 'frames.gif', 'turned.jpg', 'clear.png')))'''
    if not os.path.exists('/proc/self/clear_refs'): pytest.skip('only Linux tells a peak')
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert max(map(float, done.stdout.split())) < 12 + 4 + 6, done.stdout


# ---- kinds and endings
@pytest.mark.parametrize('ending, kind', [
    ('jfif', 'JPEG'), ('jpe', 'JPEG'), ('JPEG', 'JPEG'), ('avif', 'AVIF'), ('jp2', 'JPEG2000'),
    ('j2k', 'JPEG2000'), ('jpx', 'JPEG2000'), ('tiff', 'TIFF'), ('pnm', 'PPM'), ('apng', 'PNG')])
def test_a_folder_finds_every_kind(tmp_path, ending, kind):
    put(tmp_path/f'x.{ending}', saved(kind))
    assert [f.name for f in found_files(tmp_path).files] == [f'x.{ending}']
    assert bits(tmp_path/f'x.{ending}').shape == PIXELS.shape


def test_a_file_is_what_it_begins_with(tmp_path):
    assert np.array_equal(bits(put(tmp_path/'x.jpg', saved('PNG'))), PIXELS)
    drawing = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
    line(lambda: read_image(put(tmp_path/'x.png', drawing)), 'x.png', 'give a')


HEIC = struct.pack('>I4s4sI4s4s', 24, b'ftyp', b'heic', 0, b'mif1', b'heic') + saved('PNG')


def test_heic_without_its_plugin_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)                # as if it were not installed
    path = put(tmp_path/'x.heic', HEIC)
    for read in (read_image, check_image): line(lambda: read(path), 'x.heic', 'install pillow-heif')


def test_heic_with_its_plugin_is_read(tmp_path, monkeypatch):
    class Fake(ImageFile.ImageFile):
        "Stands for what pillow-heif registers: behind the head there is a PNG."
        format = 'HEIF'
        def _open(self):
            with Image.open(io.BytesIO(self.fp.read()[24:])) as inside: self.fp = io.BytesIO(inside.tobytes())
            self._size, self._mode = inside.size, inside.mode
            self.tile = [('raw', (0, 0, *inside.size), 0, ('RGB', 0, 1))]
    register = lambda: Image.register_open('HEIF', Fake, lambda head: head[8:12] == b'heic')
    monkeypatch.setattr(Image, 'OPEN', dict(Image.OPEN))
    monkeypatch.setattr(Image, 'ID', list(Image.ID))
    monkeypatch.setitem(sys.modules, 'pillow_heif', types.SimpleNamespace(register_heif_opener=register))
    assert np.array_equal(bits(put(tmp_path/'x.heic', HEIC)), PIXELS)


def test_of_several_frames_the_first(tmp_path):
    frames = [Image.new('RGB', (8, 6), colour) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    for kind in ('GIF', 'PNG', 'WEBP', 'TIFF'):
        data = saved(kind, frames[0], save_all=True, append_images=frames[1:])
        seen = bits(put(tmp_path/'x', data)).reshape(-1, 3)
        assert seen.shape == (48, 3) and np.abs(seen.astype(int) - [255, 0, 0]).max() < 3, kind


def test_decoders_are_kept_off_stderr(tmp_path, capfd):
    "libtiff and libpng print there themselves; the command's one line stands alone."
    lzw = saved('TIFF', compression='tiff_lzw')
    line(lambda: read_image(put(tmp_path/'a.tif', lzw[:8] + b'\xff'*9 + lzw[17:])), 'a.tif')
    line(lambda: read_image(put(tmp_path/'b.png', png((14, 9), b'\7'*2000, 16, 2))), 'b.png')
    line(lambda: read_image(put(tmp_path/'c.tif', tiff(PIXELS, 2, t277=40))), 'c.tif', '40')
    os.write(2, b'still there')
    assert capfd.readouterr().err == 'still there'


# ---- what is no plain file
def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path/'pipe.png')
    (tmp_path/'self.png').symlink_to(tmp_path/'self.png')
    (tmp_path/'lost.png').symlink_to(tmp_path/'nowhere')
    for name in ('pipe.png', 'self.png', 'lost.png', 'x\0.png', 'a'*300 + '.png'):
        for read in (read_image, check_image):
            said = line(lambda: read(tmp_path/name), error=OSError)
            assert name in said or not name.isprintable() or len(name) > 99
    line(lambda: read_image('/dev/zero'), '/dev/zero', error=OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason='nothing is forbidden to root')
def test_a_file_that_may_not_be_read(tmp_path):
    path = put(tmp_path/'x.png', saved('PNG'))
    path.chmod(0)
    assert 'x.png' in str(pytest.raises(PermissionError, read_image, path).value)


@pytest.mark.parametrize('name', ['a\nb.png', 'caf\udce9.png', '\x1b[2J.png', ' .png', 'ü.png'])
def test_any_name_is_said_on_one_line(tmp_path, name):
    path = put(tmp_path/name, b'no picture')
    text = line(lambda: read_image(path))
    assert text.isprintable() and str(tmp_path) in text
    assert np.array_equal(bits(put(path, saved('PNG'))), PIXELS)
    assert found_files(tmp_path).files == [path]


# ---- folders
@pytest.fixture
def told(monkeypatch):
    "What is said on stderr, as a list of lines."
    lines = []
    images.say.cache_clear()
    monkeypatch.setattr(images.logging.getLogger('instcomp'), 'warning', lines.append)
    return lines


def colour(k): return Image.new('RGB', (12, 10), (20*k, 255 - 20*k, 7*k))


def truncated(k):
    "A JPEG with a whole head."
    data = saved('JPEG', Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)))
    return data[:len(data) - 200 - k]


def folder_of(path, n, bad=()):
    "Pictures 00.png to n, each of its own colour; some of them cut."
    path.mkdir(exist_ok=True)
    for k in range(n):
        if k in bad: put(path/f'{k:02}.jpg', truncated(k))
        else: put(path/f'{k:02}.png', saved('PNG', colour(k)))
    return path


def test_everything_in_a_folder_is_found_or_named(tmp_path):
    home = tmp_path/'mine'
    folder_of(home, 2)
    for name in ('._00.jpg', '.hidden.png', 'Thumbs.db', 'notes.txt', 'UP.JPG', 'none'): (home/name).touch()
    for name in ('.trash', 'deep', 'looks.png'): (home/name).mkdir()
    put(home/'.trash'/'x.png', saved('PNG'))
    put(home/'deep'/'x.PNG', saved('PNG'))
    os.mkfifo(home/'pipe.png')
    (home/'lost.png').symlink_to('nowhere')
    files, skipped = found_files(home)
    names = lambda some: [f.relative_to(home).as_posix() for f in some]
    assert names(files) == ['00.png', '01.png', 'UP.JPG', 'deep/x.PNG']
    assert names(f for f, _ in skipped) == ['Thumbs.db', 'lost.png', 'none', 'notes.txt', 'pipe.png']
    line(lambda: found_files(tmp_path/'nowhere'), 'nowhere')
    line(lambda: found_files(home/'00.png'), '00.png is a file')
    with set_limits(['files=5']): line(lambda: found_files(home), 'mine', '--limit files=')


def test_links_to_folders_are_entered_once_and_loops_never(tmp_path):
    home, other = folder_of(tmp_path/'mine', 1), folder_of(tmp_path/'mine too', 1)  # begins as the other
    for name, target in (('loop', home), ('up', tmp_path), ('root', '/'), ('one', other), ('two', other)):
        (home/name).symlink_to(target)
    (other/'back').symlink_to(home)
    assert [f.relative_to(home).as_posix() for f in found_files(home).files] == ['00.png', 'one/00.png']


def test_the_split_changes_only_where_a_file_is_bad(tmp_path, told):
    names = lambda files: [int(f.stem) for f in files]
    home = folder_of(tmp_path/'good', 35)
    assert names(split_files(home, 'test', check=True)) == [0, 10, 20, 30] and not told
    assert names(split_files(home, 'train', check=True)) == [k for k in range(35) if k % 10]
    for k in (10, 11, 25): put(home/f'{k}.png', b'')
    assert names(split_files(home, 'test', check=True)) == [0, 12, 20, 30]
    rest = [k for k in range(35) if k not in (0, 10, 11, 12, 20, 25, 30)]
    assert names(split_files(home, 'train', check=True)) == rest
    assert len(told) == 1 and '32 pictures read; 3 skipped: 10.png (' in told[0] and '\n' not in told[0]


@pytest.mark.parametrize('bad', [[0], [1], [0, 1], [1, 2, 3, 4], [0, 2, 4]])
def test_a_small_folder_is_looked_through_before_anything_starts(tmp_path, told, bad):
    home = folder_of(tmp_path/'mine', 5, bad)
    train, test = source(str(home), 'train'), source(str(home), 'test')
    good = [k for k in range(5) if k not in bad]
    assert [int(f.stem) for f in test.items] == good[:1]
    assert [int(f.stem) for f in train.items] == (good[1:] or good)
    assert len(told) == 1 and f'{len(good)} picture' in told[0] and f'{len(bad)} skipped' in told[0]
    assert evaluation_images(str(home), 8, 99).shape == (1, 3, 8, 8)


def test_a_folder_without_a_good_picture_is_refused(tmp_path):
    home = folder_of(tmp_path/'mine', 2, [0, 1])
    for split in ('train', 'test'): line(lambda: source(str(home), split), 'mine', '2 skipped', '00.jpg')
    line(lambda: Folder(home), 'mine', '00.jpg')
    (home/'test').mkdir()
    line(lambda: source(str(home), 'test'), 'test', 'ends in')


def test_training_takes_the_next_picture_whatever_was_read_before(tmp_path, told):
    "Of pictures that break when they are decoded: a batch is a function of (seed, step) all the same."
    home = folder_of(tmp_path/'mine', 9, [2, 3, 8])
    files = sorted(home.iterdir())
    run = lambda: Batches(Folder(home, 'centre', files), 8, 4, seed=1, steps=12)
    used = run()
    whole = [used[step] for step in range(12)]
    assert all(torch.equal(run()[step], whole[step]) for step in range(12))     # each by a new process
    for step, batch in enumerate(whole):
        want = [{2: 4, 3: 4, 8: 0}.get(k, k) for k in used.items(step)]
        assert (batch[:, 0].mean((1, 2))*255/20).round().int().tolist() == want
    assert len(told) == 3 and all(text.startswith('skipped: ') and '.jpg' in text for text in told)


def test_the_crop_of_a_stand_in_needs_no_other_random_numbers(tmp_path, told):
    files = sorted(folder_of(tmp_path/'mine', 4, [1]).iterdir())
    first, later = Folder(tmp_path, files=files, augment=True), Folder(tmp_path, files=files, augment=True)
    later.view(1, 8, np.random.default_rng(5))                           # knows already that it is broken
    assert torch.equal(*(f.batch(4, 8, np.random.default_rng(0), [0, 1, 2, 3]) for f in (first, later)))


def test_held_out_pictures_that_break_are_replaced_if_there_are_others(tmp_path, told):
    files = sorted(folder_of(tmp_path/'mine', 8, [1, 4]).iterdir())
    views = lambda n, seed: Folder(tmp_path, files=files).fixed(8, n, seed)
    reds = lambda n, seed: sorted(round(float(view[0].mean())*255/20) for view in views(n, seed))
    assert reds(None, 0) == [0, 2, 3, 5, 6, 7]
    for seed in range(5):
        some = reds(4, seed)
        assert len(some) == 4 == len(set(some)) and not {1, 4} & set(some)
        asked = np.random.default_rng(seed).permutation(8)[:4]
        assert set(asked.tolist()) - {1, 4} <= set(some)                 # the good ones that were chosen stay
    with pytest.raises(ValueError): list(Folder(tmp_path, files=files, strict=True).fixed(8))
    line(lambda: evaluation_images(Folder(tmp_path, files=files[1:2]), 8), 'none')


def test_a_picture_too_thin_for_its_crop_is_skipped(tmp_path, told):
    Image.new('L', (1, 60_000)).save(tmp_path/'thin.png')
    files = [tmp_path/'thin.png', put(tmp_path/'good.png', saved('PNG', colour(3)))]
    for crop in ('native', 'centre'):
        batch = Folder(tmp_path, crop, files, 64).batch(2, 64, np.random.default_rng(0), [0, 1])
        assert batch.shape == (2, 3, 64, 64) and torch.equal(batch[0], batch[1])
    assert 'thin.png' in told[0]


def test_a_stand_in_has_the_same_class(tmp_path, told):
    for name, ks in (('cat', (1, 2)), ('dog', (8, 9))):
        folder_of(tmp_path/name, 0)
        for k in ks: put(tmp_path/name/f'{k}.png', saved('PNG', colour(k)))
    views = FolderImages(tmp_path, 8, 2)
    for name in ('cat/2.png', 'dog/9.png'): put(tmp_path/name, truncated(0))
    seen = views[torch.arange(4)]
    assert (seen[:, 0].mean((1, 2))*255/20).round().int().tolist() == [1, 1, 8, 8]
    assert views.label.tolist() == [0, 0, 1, 1]
    for name in ('8.png', '9.png'): put(tmp_path/'dog'/name, b'')
    line(lambda: views[torch.tensor([2])], '8.png', 'nor any other')


def test_crops_kept_in_memory_leave_bad_files_out(tmp_path, told):
    files = sorted(folder_of(tmp_path/'mine', 4, [1]).iterdir())
    crops = PhotoCrops(files)
    assert len(crops) == 3 and len(told) == 1
    assert crops.batch(2, 8, np.random.default_rng(0)).shape == (2, 3, 8, 8)
    line(lambda: PhotoCrops(files[1:2]), 'none')


# ---- through the command
@pytest.fixture
def phone(tmp_path, monkeypatch):
    "What a phone's folder holds; two pictures can be read."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    images.say.cache_clear()
    home = tmp_path/'phone'
    home.mkdir()
    held = {'a.jfif': with_exif('JPEG', BAD['resolution in letters']), 'b.png': saved('PNG'), 'c.heic': HEIC,
            'd.jpg': truncated(0), 'e.txt': b'words', '._a.jpg': b'\0\5\x16\7'}
    for name, data in held.items(): put(home/name, data)
    return tmp_path


def ran(words, capfd):
    code = cli.main([str(word) for word in words])
    return code, *capfd.readouterr()


def test_encode_says_what_it_read_and_what_not(phone, capfd):
    code, _, err = ran(['encode', 'phone', '-o', 'c.safetensors', '--model', 'image-cavia'], capfd)
    assert code == 0 and '2 of 5 files' in err and err.count('\n') == 1
    words = ('c.heic', 'install pillow-heif', 'd.jpg', 'e.txt')
    assert all(word in err for word in words) and '._a' not in err
    for name in ('c.heic', 'd.jpg', 'e.txt'):                            # named, not found: refused
        words = ['encode', 'phone/b.png', f'phone/{name}', '-o', 'n.safetensors', '--model', 'image-cavia']
        code, out, err = ran(words, capfd)
        assert code == 2 and name in err and err.count('\n') == 1 and not (phone/'n.safetensors').exists()


def test_train_and_eval_say_it_too(phone, told, capfd):
    train = ['train', 'image-ipc-tiny', '--data', 'phone', '--out']
    assert ran([*train, 'run', '--steps', '2'], capfd)[0] == 0
    images.say.cache_clear()
    code, out, err = ran(['eval', 'run', '--data', 'phone', '--json'], capfd)
    assert code == 0 and json.loads(out)['n'] == 1
    said = ('2 pictures read; 3 skipped', 'install pillow-heif')
    assert len(told) == 2 and all(word in text for text in told for word in said)
    for name in ('a.jfif', 'b.png'): (phone/'phone'/name).unlink()
    for words in ([*train, 'new'], ['eval', 'run', '--data', 'phone'],
                  ['encode', 'phone', '-o', 'c.safetensors', '--model', 'run']):
        code, out, err = ran(words, capfd)
        assert code == 2 and err.count('\n') == 1 and 'c.heic' in err, err
    assert sorted(os.listdir(phone)) == ['phone', 'run']
