"Entropy coding of whole numbers: round trips, damage, and tables that are whole numbers."
import functools

import numpy as np
import pytest

from instcomp.models import entropy
from instcomp.models.entropy import compress, decompress, fit_prior, quantise

LIMIT = 1 << 20
SHAPES = [(1,), (2,), (33,), (1, 1), (1, 2), (2, 1), (1, 7), (5, 1), (2, 2), (3, 5), (8, 8), (17, 30)]
OTHER = [(16, 3, 2), (16, 6), (16, 2, 4), (15, 2, 3), (16, LIMIT, LIMIT), (16, -2, -3)]


def field(rng, C, h, w, scale):
    "Laplacian numbers whose scale falls with the channel and differs between places; the first is smooth."
    s = scale*np.exp(-np.arange(C)/(C/4))[:, None, None]*np.exp(rng.normal(size=(1, h, w)))
    q = np.round(rng.laplace(size=(C, h, w))*s).astype(np.int32)
    q[0] = np.cumsum(np.cumsum(rng.normal(size=(h, w)), 0), 1)*scale/4
    return q


@functools.cache
def prior(C):
    "Tables for C channels; those for 20 are of sounds."
    rng, (h, w) = np.random.default_rng(0), (1, 64) if C == 20 else (16, 16)
    grids = [field(rng, C, h, w, 2.**rng.uniform(-3, 4)) for _ in range(24)]
    return fit_prior(grids, steps=200 if C == 16 else 20)


def round_trip(q, C):
    data = compress(q, prior(C))
    again = decompress(data, q.shape, prior(C))
    assert again.shape == q.shape and (again == q).all()
    return data


def grids(C, shape):
    "Grids of many magnitudes, one with a single number, one of the largest."
    rng = np.random.default_rng(len(shape)*100 + shape[0])
    for top in (0, 1, 2, 40, 3000, LIMIT): yield rng.integers(-top, top + 1, (C, *shape))
    yield np.eye(C, dtype=int)[rng.integers(C)].reshape(C, *[1]*len(shape)) + np.zeros((C, *shape), int)
    yield LIMIT*(-1)**rng.integers(2, size=(C, *shape))


def small():
    "A grid and its bytes."
    q = field(np.random.default_rng(1), 16, 6, 6, 4.)
    return q, compress(q, prior(16))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('C', [3, 16])
def test_what_is_written_is_read(C, shape):
    for q in grids(C, shape): round_trip(q, C)


@pytest.mark.slow
@pytest.mark.parametrize('C', [20, 70])
def test_what_is_written_is_read_with_other_tables(C):
    for shape in SHAPES:
        for q in grids(C, shape): round_trip(q, C)


@pytest.mark.parametrize('shape', [(16, 0, 5), (16, 5, 0), (16, 0)])
def test_nothing(shape): round_trip(np.zeros(shape, int), 16)


def test_zeros_are_free(): assert len(round_trip(np.zeros((16, 40, 40), int), 16)) <= 8


def test_contexts_learn():
    "Fewer bytes than the entropy of each channel alone."
    q, alone = field(np.random.default_rng(5), 16, 32, 32, 3.), 0
    for channel in q:
        n = np.unique(channel, return_counts=True)[1]
        alone -= (n*np.log2(n/n.sum())).sum()/8
    assert len(round_trip(q, 16)) < alone


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(ValueError, match='2.20'): compress(np.full((16, 2, 2), LIMIT + 1), prior(16))
    with pytest.raises(ValueError, match='15'): compress(np.zeros((15, 2, 2), int), prior(16))
    with pytest.raises(ValueError, match='grid'): compress(np.zeros(16, int), prior(16))


@pytest.mark.parametrize('shape', OTHER)
def test_another_shape_is_refused(shape):
    data = compress(np.ones((16, 2, 3), int), prior(16))
    with pytest.raises(ValueError): decompress(data, shape, prior(16))


def test_every_truncation_is_told():
    q, data = small()
    for n in range(0, len(data), 7):
        with pytest.raises(ValueError) as error: decompress(data[:n], q.shape, prior(16))
        assert '\n' not in str(error.value)


def test_damage_is_told():
    rng, (q, data) = np.random.default_rng(2), small()
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(ValueError): decompress(bytes(damaged), q.shape, prior(16))


def test_rubbish_with_the_right_sum_ends():
    "Bytes made to pass the check are something of the shape, or a ValueError: bounded, no crash."
    rng, shape = np.random.default_rng(3), (16, 6, 6)
    for _ in range(60):
        body = rng.integers(0, 256, rng.integers(0, 200), dtype=np.uint8).tobytes()
        try: q = decompress(entropy._sum(shape, body) + body, shape, prior(16))
        except ValueError: continue
        assert q.shape == shape and np.abs(q).max() <= LIMIT


def test_the_tables_are_whole_numbers():
    for name, values in prior(16).items(): assert values.dtype.kind in 'iu', name
    table, near = prior(16)['table'].astype(int), prior(16)['near'].astype(int)
    assert (table.sum(1) == entropy.TOTAL).all() and table.min() >= 1
    assert (near.sum(-1)*entropy.CAP < 1 << 24).all()              # float32 holds the sums, in any order


def test_symbols_invert():
    r = np.concatenate([np.arange(-5000, 5000), [1 << 21, -(1 << 21), (1 << 21) - 1, 1_861_502]])
    s, bits, raw = entropy._symbols(r)
    assert (entropy._bits_of(s) == bits).all() and (entropy._residuals(s, raw) == r).all()
    assert s.min() >= 0 and s.max() < entropy.SYMBOLS


@pytest.mark.parametrize('smooth', [False, True])
@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (6, 11), (8, 8)])
def test_every_place_comes_once_and_after_its_neighbours(shape, smooth):
    known = np.zeros(shape[0]*shape[1], int)
    for _, cells, by in entropy._passes(*shape, smooth):
        assert by is None or known[by].all()
        known[cells] += 1
    assert (known == 1).all()


def test_quantise_trades():
    "Fewer bytes, a little more error; weight 0 rounds to nearest."
    rng = np.random.default_rng(4)
    z = field(rng, 16, 24, 24, 8.)/3 + rng.normal(size=(16, 24, 24))*.3
    near, cheap = quantise(z, prior(16), 0), quantise(z, prior(16), .1)
    assert np.abs(near - z).max() <= .5001
    assert len(round_trip(cheap, 16)) < len(round_trip(near, 16))
    assert ((cheap - z)**2).mean() < 2*((near - z)**2).mean()
