"One schema for a row: every wrong value is one line that names its key, before anything is built or written."
import inspect
import json
import random
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields

import pytest
import torch
from rooms import ORDER, ROOT

import instcomp.schema as schema
from instcomp.cli import main
from instcomp.data.datasets import DATA
from instcomp.experiments import builder
from instcomp.experiments.catalog import PRESETS
from instcomp.experiments.gan import GAN_PRESETS
from instcomp.geometry.shapes import PLURALS
from instcomp.models.discriminator import Discriminator, build_gan
from instcomp.models.inrgan import Generator
from instcomp.models.modulation import SIGMAS
from instcomp.models.radiance import DENSITIES, radiance_model, ray_query
from instcomp.tasks.registry import TASKS
from instcomp.training.device import DTYPES

ROWS = PRESETS | GAN_PRESETS
# what `build` fills in, or never sets
FILLED = {'inr', 'size', 'code_shape', 'axes', 'channels', 'd', 'generator', 'self'} 


def refusal(row, overrides):
    "What `resolve` says against it; None: nothing."
    try: schema.resolve(row, overrides)
    except ValueError as error:
        assert '\n' not in str(error) and len(str(error)) < 600, error
        return str(error)


WRONG = {  # words of --set: what the answer names
    'modulator.inr=3': "unknown key in modulator ipc 'inr'",
    'encoder.size=3': "unknown key in encoder transformer 'size'",
    'encoder.code_shape=[1,2]': 'code_shape', 'encoder.axes=1': 'axes', 'encoder.channels=4': 'channels',
    'train.warmup=-1': 'train.warmup=-1: give a whole number from 0', 'train.clip=-1': 'train.clip=-1',
    'train.lr=true': 'train.lr=true', 'train.lr=NaN': 'train.lr=NaN', 'train.lr=Infinity': 'train.lr',
    'train.lr=1e308': 'train.lr', 'train.lr=[1]': 'train.lr', 'train.lr={"a":1}': 'train.lr',
    'train.lr=' + '9'*4000: 'train.lr', 'train.lr=' + '9'*5000: 'train.lr',
    'train.lr=' + '['*5000: 'train.lr',
    'train.betas=[1,1]': 'train.betas', 'train.betas=0.9': 'train.betas', 'train.seed=-1': 'train.seed',
    'train.steps=1e3': 'train.steps', 'train.floor=2': 'train.floor',
    'train.optimizer=sgd': 'train.optimizer',
    'train.schedule=3': 'train.schedule', 'train.weight_decay=-1': 'train.weight_decay',
    'encoder.depth=-1': 'encoder.depth=-1', 'encoder.depth=0': 'encoder.depth=0',
    'encoder.depth=1000000': 'encoder.depth=1000000', 'encoder.heads=3': 'encoder.heads=3',
    'encoder.mix=3': 'encoder.mix=3', 'encoder.patch=5': 'encoder.patch=5',
    'encoder.patch=0': 'encoder.patch=0',
    'encoder.padding=1': 'encoder.padding=1', 'encoder.dropout=1': 'encoder.dropout',
    'encoder.own=1': 'encoder.own', 'inr.hidden=0': 'inr.hidden=0', 'inr.hidden=[]': 'inr.hidden',
    'inr.hidden=[64,[64]]': 'inr.hidden', 'inr.hidden=[100000,100000]': 'inr.hidden',
    'inr.depth=7': 'inr.depth=7', 'inr.sine=[30,30]': 'inr.sine', 'inr.normalize=0': 'inr.normalize',
    'encoding=[]': 'encoding', 'encoding=fast': 'encoding', 'encoding.m=1': 'encoding.m=1',
    'encoding.generator=1': 'generator', 'encoding.name=positional': 'encoding.m is missing',
    'modulator.rank=0': 'modulator.rank=0', 'modulator.layer=4': 'modulator.layer=4',
    'modulator={"name":"columns","groups":0}': 'modulator.groups=0', 'modulator.name=3': 'modulator',
    'modulator={"name":"film","layers":[9]}': 'modulator.layers',
    'modulator={"name":"full","layers":[1,1]}': 'modulator.layers', 'modulator=null': 'modulator',
    'modulator={"name":"concatenate","layer":9}': 'modulator.layer=9', 'inr=3': 'inr=3', 'inr=[]': 'inr',
    'train=null': 'train=null', 'refine=true': 'refine=true', 'refine.lr=0': 'refine.lr', 'size=0': 'size=0',
    'size=9000': 'size=9000', 'size=33': 'size=33', 'augment=1': 'augment=1',
    'precision=fp8': 'precision=fp8',
    'note=3': 'note=3', 'data=cars': 'data=cars', 'data=[]': 'data', 'task=audio': 'task.rate is missing',
    'task=nvs': 'made for task', 'encoder.name=views': 'encoder.patch is missing', 'colour=red': 'colour',
    'encoder={"name":"conv","stages":6}': 'encoder.stages', 'encoder={"name":"conv","groups":3}': 'groups',
    'encoder={"name":"gradient","lr":[1,0.1]}': 'encoder.lr',
    'encoder={"name":"gradient","steps":-1}': 'steps',
    'encoder={"name":"gradient","lr":[0,1],"order":1}': 'encoder.order', 'generator.rung=5': 'generator',
}


@pytest.mark.parametrize('words', WRONG, ids=lambda words: words[:40])
def test_wrong_pictures(words):
    said = refusal(PRESETS['image-ipc-tiny'], schema.changes([words]))
    assert said and WRONG[words] in said, said


def test_wrong_views_and_players():
    wrong = {'nvs-ipc-tiny-cars': {
        'task.near=6': 'task.near=6', 'task.support=[5,1]': 'task.support',
        'task.support=[1,99]': 'task.support',
        'task.density=exp': 'task.density', 'task.rate=3': 'rate', 'task.points=0': 'task.points',
        'task.support=0': 'task.support', 'task.asked=0': 'task.asked', 'task.adaptive=2': 'task.adaptive',
        'encoder.name=transformer': 'encoder.patch', 'data=photos': 'data=photos',
        'task.objects=0': 'objects'},
        'inrgan-tiny': {
        'size=64': 'size=64', 'generator.scales=[[64,4,1]]': 'generator.scales',
        'generator.classes=3': 'classes',
        'generator.scales=[[63,4]]': 'generator.scales', 'generator.rung=6': 'generator.rung',
        'loss=1': 'loss=1',
        'train.batch=6': 'train.batch=6', 'discriminator.widths=[]': 'discriminator.widths',
        'inr.depth=3': 'inr',
        'generator.modulate=3': 'modulate', 'generator.fourier=0': 'generator.scales',
        'loss.gamma=-1': 'gamma'}}
    for preset, cases in wrong.items():
        for words, key in cases.items():
            said = refusal(ROWS[preset], schema.changes([words]))
            assert said and key in said, (words, said)
    near = schema.changes(['task.near=5', 'task.far=2'])
    assert refusal(ROWS['cars-ipc'], near) == 'task.near=5: give less than task.far=2'


def test_a_whole_model_goes_with_its_own_parts():
    for preset, words in [('photos-local', 'modulator=lowrank'), ('photos-local', 'modulator=ipc'),
                          ('photos-zoom', 'encoder={"name":"conv"}'),
                          ('photos-local', 'encoder.name=gradient'),
                          ('image-ipc-tiny', 'modulator=local'), ('image-ipc-tiny', 'encoder=local')]:
        said = refusal(ROWS[preset], schema.changes([words]))
        assert said and any(word in said for word in ('whole model', 'encoding')), said


def test_one_number_of_shown_pictures_is_enough():
    for given in (2, [2, 2]):
        assert schema.resolve(ROWS['cars-ipc'], dict(task=dict(support=given)))['task']['support'] == [2, 2]


def contained(row, full):
    "Is everything that a row says in the full row?"
    for key, value in row.items():
        if isinstance(value, dict) and isinstance(full[key], str): assert value == dict(name=full[key])
        elif isinstance(value, dict): contained(value, full[key])
        else: assert value == full[key] and type(value) is type(full[key]), key


@pytest.mark.parametrize('name', ROWS)
def test_presets_mean_themselves(name):
    before = json.dumps(ROWS[name])
    full = schema.resolve(ROWS[name])
    contained(ROWS[name], full)
    assert schema.resolve(full) == full == schema.migrated(full) == json.loads(json.dumps(full))
    assert json.dumps(ROWS[name]) == before
    assert list(schema.explain(ROWS[name]))


VALUES = [None, True, False, 0, 1, 2, 3, 4, 7, 16, 64, -1, 10**6, 10**30, 10**400, .5, -.5, 1., 1e-3, 1e308,
          '', 'a',
          float('nan'), float('inf'), -float('inf'), 'shared', 'ipc', 'none', 'fast\n', '\ud800', 'x'*5000,
          [], [0],
          [1], [.9, .9], [1, 2], [64, 64, 64], [[64, 4]], [[1]], {}, {'name': 'film'}, {'name': []}, {'a': 1},
          [[[[[[[[1]]]]]]]], [None], ['a'], [True], {'name': 'none', 'lr': 1}]


def places(row):
    "All keys of a row, nested ones as pairs; some that no row has."
    nested = {key: value for key, value in row.items() if isinstance(value, dict)}
    yield from [(key,) for key in row]
    strange = ['inr', 'lr', 'layer', 'zzz', '']
    yield from [(key, name) for key, part in nested.items() for name in [*part, *strange]]


def changed(row, place, value):
    key, *rest = place
    return row | {key: row[key] | {rest[0]: value} if rest else value}


@pytest.mark.parametrize('seed', range(4))
def test_any_value_anywhere(seed):
    "A row with wrong values is refused by one line that names a key, or resolves to a row that stays."
    draw, tried = random.Random(seed), 0
    for name in draw.sample([*ROWS], 20):
        row = schema.resolve(ROWS[name])
        for place in places(row):
            value = draw.choice(VALUES)
            for again in (lambda: schema.resolve(changed(row, place, value)),
                          lambda: schema.resolve(row, changed({place[0]: {}}, place, value)),
                          lambda: schema.resolve(changed(row, place, value) | dict(format=1))):
                tried += 1
                try: full = again()
                except ValueError as error:
                    said = str(error)
                    assert '\n' not in said and len(said) < 900 and said.isprintable()
                    assert any(part in said for part in place if part) or '=' in said or 'lacks' in said, said
                else: assert schema.resolve(full) == full
    assert tried > 2000


@pytest.mark.parametrize('seed', range(2))
def test_what_resolves_is_built(seed):
    "Small changes of tiny presets: refused in one line, or a model."
    draw, built = random.Random(seed), 0
    tiny = [name for name in PRESETS if 'tiny' in name] + ['inrgan-tiny']
    small = [v for v in VALUES if not isinstance(v, (int, float)) or abs(v) <= 16]
    while built < 12:
        row = ROWS[draw.choice(tiny)]
        place = draw.choice([p for p in places(row) if p[0] not in ('train', 'data', 'note', 'loss')])
        try: full = schema.resolve(changed(row, place, draw.choice(small)))
        except ValueError: continue
        make = build_gan if full['task'] == 'inrgan' else builder.build
        with torch.device('meta'): model = make(full)
        assert list(model.parameters())
        built += 1


@pytest.mark.parametrize('name', ['audio-ipc-tiny', 'photos-zoom', 'speech-local'])
def test_a_row_without_a_task(name):
    "Also of a whole model, which decides about the other sections."
    new = {key: value for key, value in PRESETS[name].items() if key != 'task'}
    with pytest.raises(ValueError, match="lacks 'task'"): schema.resolve(new)


def test_a_wrong_row_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for preset, words in [('image-ipc-tiny', 'modulator.inr=3'), ('inrgan-tiny', 'train.warmup=-1'),
                          ('nvs-ipc-tiny-cars', 'task.near=9'), ('image-ipc-tiny', 'train.lr=' + '['*3000)]:
        assert main(['train', preset, '--out', 'run', '--steps', '1', '--set', words]) == 2
        assert capsys.readouterr().err.count('\n') == 1 and not list(tmp_path.iterdir())


def test_a_wrong_config_is_named(tmp_path):
    good = schema.resolve(dict(preset=None) | PRESETS['image-ipc-tiny']) | dict(format=2, version='0')
    for wrong, key in [(dict(refine=True), 'refine=true'), (dict(format=99), 'format'), (dict(size=1e3),
                       'size'),
                       (dict(encoder=good['encoder'] | dict(depth=10**6)), 'encoder.depth'), (dict(task=[]),
                       'task'), (dict(modulator={}), 'modulator.name is missing'),
                       (dict(inr='a'), 'inr=a'), (dict(format=[]), 'format'), (dict(format=1, encoder=3),
                       'encoder')]:
        (tmp_path/'config.json').write_text(json.dumps(good | wrong))
        with pytest.raises(ValueError) as error: builder.read_config(tmp_path)
        assert 'config.json' in str(error.value) and key in str(error.value) and '\n' not in str(error.value)


def test_rows_of_format_1_go_on():
    old = dict(format=1) | PRESETS['image-ipc-cavia-tiny']
    old['encoder'] = old['encoder'] | dict(name='cavia')
    new = schema.resolve(old)
    assert new == dict(format=2) | schema.resolve(PRESETS['image-ipc-cavia-tiny']) == schema.migrated(old)
    assert 'cavia' in refusal(old | dict(format=2), {})
    wide = old | dict(inr=dict(hidden=[8, 8], depth=9))                    # depth was not asked there
    assert schema.resolve(wide)['inr']['depth'] is None and 'inr.depth=9' in refusal(wide | dict(
        format=2, encoder=PRESETS['image-ipc-cavia-tiny']['encoder']), {})


def test_the_table_says_what_constructors_take():
    for role, entries in schema.ROLES.items():
        for name, entry in entries.items():
            if not entry.make: continue
            assert ORDER[entry.make.partition(':')[0]] < ORDER['experiments.builder']
            takes = inspect.signature(builder._constructor(entry.make)).parameters
            known = {f.name: f for f in fields(entry.settings)}
            assert set(takes) - FILLED == set(known), (role, name)
            for key, f in known.items():
                default = inspect.Parameter.empty if f.default is MISSING else f.default
                assert takes[key].default == default, (role, name, key)


def test_the_table_agrees_with_the_rooms():
    assert set(DATA) | {'folder', 'file', 'objects', 'bedroom', 'lsun10'} == set(schema.ROLES['data'])
    assert set(PLURALS) == set(schema.FAMILIES) and set(TASKS) <= set(schema.ROLES['task'])
    for name, task in TASKS.items():
        settings = schema.ROLES['task'][name].settings
        assert (settings.point, settings.unit) == (task.point, task.unit)
    known = {f.name: f for f in fields(schema.Views)}
    for to, function in dict(query=ray_query, model=radiance_model).items():
        takes = inspect.signature(function).parameters
        for key, f in known.items(): assert f.metadata['to'] != to or takes[key].default == f.default
    assert all(known['density'].metadata['kind'].fits(name) for name in DENSITIES)
    common = {f.name: f for f in fields(schema.Common)}
    assert all(map(common['precision'].metadata['kind'].fits, [*DTYPES, 'auto']))
    sigma = {f.name: f for f in fields(schema.Factorized)}['sigma'].metadata['kind']
    assert all(map(sigma.fits, SIGMAS))
    players = {schema.GeneratorSettings: Generator, schema.DiscriminatorSettings: Discriminator}
    for settings, part in players.items():
        takes = inspect.signature(part).parameters
        for f in fields(settings):
            if f.name in takes and f.default not in (None, MISSING): assert takes[f.name].default == f.default
            else: assert f.name in takes or f.name in ('rung', 'latent')


@dataclass(kw_only=True)
class Local(schema.Settings):
    "A model that is none of network, modulator and encoder."
    cell: int = schema.setting(schema.whole(1, 64), 8, 'pixels')


class LocalModel(torch.nn.Module):
    def __init__(self, task, query, refine, config):
        super().__init__()
        self.query, self.config = query, config
        self.map = torch.nn.Linear(task.point*config['encoder']['cell'], task.values)


def test_a_model_of_its_own_kind(monkeypatch):
    "An entry says which sections its rows have and which constructor builds the whole model."
    monkeypatch.setattr('instcomp.models.ginr.LocalModel', LocalModel, raising=False)
    entry = schema.Entry(Local, model='models.ginr:LocalModel', optional=('refine', 'modulator'),
                         sections=('data', 'size', 'encoder', 'train', 'precision', 'augment'),
                         tasks=('image',))
    monkeypatch.setitem(schema.ROLES['encoder'], 'local', entry)
    row = dict(task='image', data='photos', size=32, encoder=dict(name='local', cell=4), train={},
               augment=True,
               precision='auto')
    model = builder.build(row)
    assert model.map.in_features == 8 and model.config['encoder'] == dict(name='local', cell=4)
    assert "'inr'" in refusal(row | dict(inr={}), {})
    assert 'encoder.cell=0' in refusal(row, dict(encoder=dict(cell=0)))


@pytest.mark.parametrize('words', [['presets'], ['presets', 'cars-ipc'], ['presets', 'inrgan-tiny',
                                   '--explain']])
def test_listing_and_explaining_presets_imports_no_torch(words):
    code = f'import sys; from instcomp.cli import main; print(main({words}), "torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == '0 False', done.stderr
    assert 'train.lr' in done.stdout or '--explain' not in words
