"Rows: words of `--set`, the config.json of a run folder; other values, names, types, depths anywhere."
import json
from functools import cache

import torch

from instcomp.experiments.builder import build, changes, read_config, resolve
from instcomp.experiments.catalog import PRESETS
from instcomp.experiments.gan import GAN_PRESETS
from instcomp.models.discriminator import build_gan
from instcomp.schema import FORMAT, ROLES, SECTIONS

NAMED = False                                    # of a config.json see `use`; a word is named by its key
VALUES = [None, True, False, 0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 64, 100, 256, -1, 257, 4096, 16384, 10**6,
          10**9,
          2**63, 10**30, 10**400, .5, -.5, 1., 1.5, 1e-3, 1e-320, 1e308, -1e308, '', 'a', ' ', '1',
          '0.1', 'true',
          'null', float('nan'), float('inf'), -float('inf'), 'shared', 'instance', 'cosine', 'ipc', 'none',
          'folder', 'cars', 'fast\n', '\ud800', 'x'*5000, '\0', '\x1b[31m', [], [0], [1], [.9, .9], [1, 2],
          [64, 64, 64], [64]*65, [[64, 4]], [[1]], [[64, 4], [32, 2]], {}, {'name': 'film'}, {'name': []},
          {'name': None}, {'a': 1}, [None], ['a'], [True], [1e309], {'name': 'none', 'lr': 1}, [16384]*64,
          [[[[[[[[[[[[1]]]]]]]]]]]]]
TEXTS = ['', '[', '{', '{"a":', '[1,', '"', "'a'", '1e999', '-', '0x10', '1_000', '٣', '1e3', '01', 'NaN',
         '-Infinity', '['*10**5, '['*500 + ']'*500, '{"a":'*400 + '1' + '}'*400, '9'*5000,
         '1.' + '0'*5000, '=',
         '==1', '\t1', '1 2']
NAMES = ['', 'inr', 'size', 'code_shape', 'axes', 'channels', 'lr', 'layer', 'layers', 'rank', 'zzz',
         'name',
         'format', 'd', 'version', 'preset', 'note', 'task', 'self', '__class__', 'check', 'x'*3000,
         'a.b', 'ö']


@cache
def rows():
    "Every preset, resolved, as a config.json holds it."
    return [dict(format=FORMAT, version='0', preset=name) | resolve(row)
            for name, row in (PRESETS | GAN_PRESETS).items()]


def pick(rng, some): return some[rng.integers(len(some))]


def key(rng, row):
    "A key of a row, mostly one that it has: (section, name) or (section,)."
    section = pick(rng, [*row]) if rng.random() < .9 else pick(rng, [*ROLES, *SECTIONS, *NAMES])
    inside = row.get(section)
    if not isinstance(inside, dict) or not inside or rng.random() < .15: return (section,)
    return section, pick(rng, [*inside]) if rng.random() < .9 else pick(rng, NAMES)


def value(rng, old=None):
    "Any value, often one near the old one, or of a role another's name."
    chance = rng.random()
    if isinstance(old, bool) or not isinstance(old, (int, float)) or chance < .5: return pick(rng, VALUES)
    near = [old + 1, old - 1, old*2, -old, 0, str(old), [old], [old, old]]
    return pick(rng, near + [old/2, float(old), old//1 + .5] if abs(old) < 1e100 else near)


def role(rng):
    "A role with another name and a few of its settings."
    which = pick(rng, [*ROLES])
    name = pick(rng, [*ROLES[which]])
    known = [*ROLES[which][name].settings.__dataclass_fields__]
    some = {pick(rng, known): value(rng, 4) for _ in range(rng.integers(3))} if known else {}
    return which, pick(rng, [name, dict(name=name) | some, dict(name=name) | some])


def word(rng, row):
    "A word after --set."
    if rng.random() < .15:
        which, new = role(rng)
        return f'{which}={new if isinstance(new, str) else json.dumps(new)}'
    place = key(rng, row)
    old = row.get(place[0])
    old = old.get(place[1]) if len(place) > 1 and isinstance(old, dict) else old
    new = value(rng, old)
    text = pick(rng, TEXTS) if rng.random() < .2 else new if isinstance(new, str) else json.dumps(new)
    return f'{".".join(place)}{pick(rng, ["="]*30 + ["", ":", "=="])}{text}'


def changed(rng, config):
    "One change of a config: a value, a role, a key that is absent or new, a section twice as deep."
    new, place = json.loads(json.dumps(config)), key(rng, config)
    if rng.random() < .1: return new | dict([role(rng)])
    inside = new if len(place) == 1 or not isinstance(new.get(place[0]), dict) else new[place[0]]
    if rng.random() < .1: inside.pop(place[-1], None)
    else: inside[place[-1]] = value(rng, inside.get(place[-1]))
    return new


def text_of(rng, config):
    "The bytes of a config.json, sometimes damaged."
    text = json.dumps(config).encode()
    what = rng.integers(12)
    if what == 0: text = text[:rng.integers(len(text))]
    elif what == 1:
        text = bytearray(text)
        for _ in range(rng.integers(1, 6)): text[rng.integers(len(text))] = rng.integers(256)
    elif what == 2: text = pick(rng, [*map(json.dumps, VALUES), *TEXTS]).encode('utf-8', 'surrogatepass')
    elif what == 3: text = pick(rng, [b'\xef\xbb\xbf', b'\xff\xfe', b'\0', b' '*1000]) + text
    elif what == 4: text = text.decode().encode('utf-16')
    return bytes(text)


def make(rng, folder):
    "(preset or None, words of --set, folder of a config.json or None)."
    config = pick(rng, rows())
    if rng.random() < .5:
        words = [word(rng, config) for _ in range(pick(rng, [1, 1, 1, 2, 3]))]
        return config['preset'], words, None
    for _ in range(pick(rng, [0, 1, 1, 1, 2, 3])): config = changed(rng, config)
    (folder/'config.json').write_bytes(text_of(rng, config))
    return None, [], folder


def warm():
    "The first model without memory takes seconds: torch loads what it needs for it."
    with torch.device('meta'): build('image-ipc-tiny')


def use(case):
    "Resolve the row and build its model without memory, as `instcomp train` and `load` would."
    preset, words, folder = case
    if folder:
        try: full = read_config(folder)
        except ValueError as error:
            assert 'config.json' in str(error), error
            raise
    else: full = resolve(dict(preset=preset) | (PRESETS | GAN_PRESETS)[preset], changes(words))
    json.dumps(full, allow_nan=False)
    assert resolve(full) == full
    with torch.device('meta'): model = (build_gan if full['task'] == 'inrgan' else build)(full)
    assert list(model.parameters())


def command(case, out):
    "What is right is refused, too: the run's place is not there, or the run has no weights."
    preset, words, folder = case
    if folder: return ['eval', folder, '--device', 'cpu', '--out', out]          # a folder without weights
    return ['train', preset, '--out', out/'none'/'run', *(f'--set={word}' for word in words)]
