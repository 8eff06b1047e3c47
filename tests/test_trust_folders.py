"Found by the fuzz suite and by reading: sizes that lie, pictures as thin as a line, links between folders."
import io
import struct

import numpy as np
import pytest
from PIL import Image

from instcomp.data.batches import Folder, PhotoCrops, found_files
from instcomp.data.images import check_image, read_image, resize
from instcomp.limits import set_limits


def test_a_box_of_jpeg_2000_that_claims_a_terabyte(tmp_path):
    "Nothing is allocated for what is not there."
    Image.new('RGB', (9, 7)).save(out := io.BytesIO(), 'JPEG2000')
    data, path = out.getvalue(), tmp_path/'x.jp2'
    at = data.index(b'jp2h') - 4
    path.write_bytes(data[:at] + struct.pack('>I4sQ', 1, b'jp2h', 2**40) + data[at + 8:])
    for read in (read_image, check_image):
        with pytest.raises(ValueError, match='x.jp2: not a whole picture'): read(path)


def test_a_picture_as_thin_as_a_line(tmp_path):
    "Would grow without bound when its short side is enlarged: refused, and in a folder replaced."
    Image.new('L', (1, 9000)).save(tmp_path/'a.png')
    Image.new('L', (6, 5), 128).save(tmp_path/'b.png')
    with set_limits(['pixels=10_000']):
        with pytest.raises(ValueError, match='9000 x 1 .* --limit pixels=576000'):
            resize(read_image(tmp_path/'a.png'), 8)
        for crop in ('native', 'centre'):
            folder = Folder(tmp_path, crop)
            a, b = (folder.batch(1, 8, np.random.default_rng(0), [i]) for i in (0, 1))
            assert (a == b).all() and a.shape == (1, 3, 8, 8)
            assert len(list(Folder(tmp_path, crop).fixed(8))) == 1
        with pytest.raises(ValueError, match='9000 x 1'): Folder(tmp_path, 'centre', strict=True).view(0, 8)


def test_links_between_folders(tmp_path):
    "A folder beside is entered, though its name is how this one's begins; the one around is not."
    for name in ('a', 'ab'): (tmp_path/name).mkdir()
    Image.new('L', (5, 5)).save(tmp_path/'a'/'x.png')
    (tmp_path/'ab'/'link').symlink_to(tmp_path/'a')
    (tmp_path/'ab'/'up').symlink_to(tmp_path)
    assert found_files(tmp_path/'ab').files == [tmp_path/'ab'/'link'/'x.png']


def test_what_is_read_passes_the_check(tmp_path):
    "The look at the head refuses no picture that can be read."
    for ending in ('png', 'jpg', 'tif', 'gif', 'webp', 'bmp', 'ppm', 'jp2', 'avif'):
        Image.new('RGB', (9, 7), 'red').save(path := tmp_path/f'x.{ending}')
        assert read_image(path).shape == (3, 7, 9) and check_image(path) == path


def test_pictures_held_in_memory_have_a_limit(tmp_path):
    for i in range(3): Image.new('RGB', (10, 10)).save(tmp_path/f'{i}.png')
    files = found_files(tmp_path).files
    assert len(PhotoCrops(files)) == 3
    with set_limits(['kept=250']), pytest.raises(ValueError, match='3 pictures: 300 kept.*--limit kept=300'):
        PhotoCrops(files)
