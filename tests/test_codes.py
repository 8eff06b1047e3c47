"Codes of any form, and their files: what goes in comes out; what is damaged is refused in one line, at once."
import json
import random
import shutil
import struct
import time

import numpy as np
import pytest
import torch
from PIL import Image

from instcomp.cli import main
from instcomp.data.code_files import CodeFile, load_codes, model_of_codes, output_names, save_codes
from instcomp.experiments import builder
from instcomp.experiments.catalog import row
from instcomp.fields.inr import INR
from instcomp.models.codes import concatenate, map_code, named, parts
from instcomp.models.ginr import GINR, prepare
from instcomp.models.ipc import IPC
from instcomp.models.meta import WeightsAsCode
from instcomp.models.modulation import FromVector, LowRank

KINDS = {'tensor': lambda B: torch.randn(B, 4, 2),
         'dict': lambda B: dict(layer0=torch.randn(B, 4, 2), bias1=torch.randn(B, 3)),
         'half': lambda B: torch.randn(B, 5).half(), 'bfloat16': lambda B: torch.randn(B, 3, 1).bfloat16(),
         'double': lambda B: dict(a=torch.randn(B, 3).double())}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "The folder of a tiny image model, and a file of two pictures' codes."
    home = tmp_path_factory.mktemp('codes')
    torch.manual_seed(0)
    small = dict(size=16, inr=dict(hidden=[16]*4), encoder=dict(dim=16, heads=2, ff=32))
    config = builder.resolve(dict(preset='image-ipc-tiny') | row('image-ipc-tiny'), small)
    builder.build(config).save(home/'model')
    for name, shape in dict(a=(18, 30, 3), b=(16, 16, 3)).items():
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(home/f'{name}.png')
    words = ['encode', home/'a.png', home/'b.png', '-o', home/'c.safetensors', '--model', home/'model']
    assert main([*map(str, words), '--device', 'cpu']) == 0
    return home


@pytest.mark.parametrize('kind', KINDS)
def test_round_trip(kind, home):
    path, codes = home/'r.safetensors', [KINDS[kind](B) for B in (3, 1, 2)]
    notes = [dict(file=f'{k}.png', more=[k, None, 'ä']) for k in range(3)]
    save_codes(path, zip(codes, notes), home/'model')
    found = list(load_codes(path, home/'model'))
    assert [about for _, about in found] == notes and model_of_codes(path) == 'model'
    for (code, _), known in zip(found, codes):
        assert isinstance(code, dict) == isinstance(known, dict)
        assert all(torch.equal(a, named(code)[name]) for name, a in named(known).items())
        assert [t.dtype for t in parts(code)] == [t.dtype for t in parts(known)]


def test_bytes_and_their_offsets(home):
    path, codes = home/'r.safetensors', [b'abc', b'', bytes(range(256))]
    save_codes(path, ((code, dict(file='a.png')) for code in codes), home/'model')
    file = load_codes(path, home/'model')
    assert [code for code, _ in file] == codes and file.code(2) == codes[2]
    with pytest.raises(ValueError, match='compressed'): file.check((4, 2), lambda about: 1)


def test_signals_are_written_as_they_come(home):
    "No signal is asked for before the one before it lies on the disk; one that fails leaves nothing."
    def signals():
        for k in range(3):
            yield torch.full((1, 2), k, dtype=torch.float32), dict(file='x')
            seen.append(k)
        raise ValueError('the fourth is broken')
    seen, before = [], sorted(home.iterdir())
    with pytest.raises(ValueError, match='fourth'):
        save_codes(home/'new.safetensors', signals(), home/'model')
    assert seen == [0, 1, 2] and sorted(home.iterdir()) == before


def test_names_never_collide():
    for files in ('a.jpg a.png a-1.png', 'a-1 a-1 a A a-0 a-2', 'b b b-0 b-0'):
        names = output_names([dict(file=name) for name in files.split()])
        assert len({name.lower() for name in names}) == len(files.split())
    assert output_names([dict(file='../../x.png'), dict(file='C:\\y.png')]) == ['x.png', 'y.png']


def decode(home, path, out):
    out.mkdir(exist_ok=True)
    return main(['decode', str(path), '-o', str(out), '--model', str(home/'model'), '--device', 'cpu'])


def opened(path):
    data = path.read_bytes()
    n, = struct.unpack('<Q', data[:8])
    return json.loads(data[8:8 + n]), data[8 + n:]


def closed(path, head, data):
    head = json.dumps(head).encode()
    path.write_bytes(struct.pack('<Q', len(head)) + head + data)


def old(head):
    "The same file as format 1."
    words = head['__metadata__']
    about = json.dumps([json.loads(words[str(k)]) for k in range(2)])
    kept = {key: words[key] for key in ('model', 'sha256')}
    return head | dict(__metadata__=dict(instcomp='codes 1', about=about) | kept)


def values(rng):
    deep = '['*3000 + ']'*3000
    return rng.choice(['', '0', '-1', '10**9', '1000000000', 'null', '{}', '[]', '[1]', '"a"', deep, '\0',
                       'codes 3', '{"file": 3}', '{"file": "a.png"}',
                       '{"file": "a.png", "height": "18", "width": 30}',
                       '{"file": "a.png", "height": 1e99, "width": 30}', '[{"file": "a.png", "height": 18}]',
                       '{"file": "a.png", "height": 999999, "width": 999999}', '{"file": "", "height": 18}',
                       '{"file": "a.png", "height": NaN, "width": true}', 'é'*300, '99999999999999999999'])


NAMES = ['0', '0/', '/V', '2/V', '00/V', 'data', 'V', '-1/V', '0/W', 'é'*300]
SHAPES = [[], [0], [1], [2, 128], [1, 256, 8], [-1], ['a'], 3, [2**62, 4]]


def corrupted(rng, head, data):
    "One damage: to the bytes, to a word, to a note, to a tensor's place, type or shape, to its numbers."
    head = json.loads(json.dumps(head))
    words, tensors = head['__metadata__'], [key for key in head if key != '__metadata__']
    key, word = rng.choice(tensors), rng.choice(sorted(words))
    what = rng.randrange(10)
    if what == 0: words[word] = values(rng)
    elif what == 1: del words[word]
    elif what == 2: words[rng.choice(['2', 'x', 'signals', 'about', 'format'])] = values(rng)
    elif what == 3: head[rng.choice(NAMES)] = head.pop(key)
    elif what == 4: head[key]['shape'] = rng.choice(SHAPES)
    elif what == 5: head[key]['dtype'] = rng.choice(['I64', 'U8', 'F16', 'BOOL', 'F8_E4M3', 'x', 3])
    elif what == 6: head[key]['data_offsets'] = [rng.randrange(len(data)), rng.randrange(2*len(data))]
    elif what == 7: data = data[:rng.randrange(len(data))]
    elif what == 8: data = data[:8] + struct.pack('<f', rng.choice([np.nan, np.inf])) + data[12:]
    else: head.pop('__metadata__') if rng.random() < .5 else head.pop(key)
    return head, data


@pytest.mark.parametrize('form', ['format 2', 'format 1'])
def test_damaged_files_are_refused(form, home, tmp_path, capsys, monkeypatch):
    "150 of each format, right hash: exit 2 and one line, or, where nothing that counts was hit, exit 0."
    rng, path, out = random.Random(0), tmp_path/'c.safetensors', tmp_path/'out'
    head, data = opened(home/'c.safetensors')
    head, model = head if form == 'format 2' else old(head), builder.load(home/'model', 'cpu')
    monkeypatch.setattr(builder, 'load', lambda name, device: model)                     # once, not 150 times
    closed(path, head, data)
    assert decode(home, path, out) == 0 and sorted(p.name for p in out.iterdir()) == ['a.png', 'b.png']
    refused = 0
    for k in range(150):
        shutil.rmtree(out)
        closed(path, *corrupted(rng, head, data))
        if k % 10 == 9:                                      # bytes, anywhere
            whole = bytearray(path.read_bytes())
            for _ in range(4): whole[rng.randrange(len(whole))] = rng.randrange(256)
            path.write_bytes(whole[:rng.randrange(len(whole))] if k % 20 == 9 else whole)
        capsys.readouterr()
        began = time.process_time()
        code, err = decode(home, path, out), capsys.readouterr().err
        assert time.process_time() - began < 5, 'no work before the check'
        assert code in (0, 2) and 'Traceback' not in err
        if code: assert len(err.splitlines()) == 1 and 'instcomp: ' in err and len(err) < 600
        refused += code == 2
    assert refused > 100


def test_every_part_is_named(home, tmp_path, capsys):
    "The cases that were tracebacks, by what their line says."
    head, data = opened(home/'c.safetensors')
    words, path = old(head)['__metadata__'], tmp_path/'c.safetensors'
    for key, value, said in [('about', '1000000000', 'no signal'), ('sha256', '', 'name the model'),
                             ('about', '[{"height": 18, "width": 18}]', 'file name'),
                             ('about', '['*3000 + ']'*3000, 'levels')]:
        closed(path, old(head) | dict(__metadata__=words | {key: value}), data)
        with pytest.raises(ValueError, match=said): CodeFile(path)
    about = '[{"file": "a.png", "width": 18}, {"file": "b.png"}]'
    closed(path, old(head) | dict(__metadata__=words | dict(about=about)), data)
    assert decode(home, path, tmp_path/'out') == 2
    err = capsys.readouterr().err
    assert 'a.png: height=null' in err and not [*(tmp_path/'out').iterdir()], 'nothing is written'


MAKERS = [lambda inr: IPC(inr, 1, 4), LowRank, WeightsAsCode, lambda inr: FromVector(IPC(inr, 1, 4))]


@pytest.mark.parametrize('make', MAKERS)
def test_building_a_modulator_changes_no_network(make):
    "GINR fits the network to it, once."
    inr = INR(hidden=8, depth=3)
    before = {name: (id(p), p.requires_grad, p.detach().clone()) for name, p in inr.named_parameters()}
    modulator = make(inr)
    for name, p in inr.named_parameters():
        assert (id(p), p.requires_grad) == before[name][:2] and torch.equal(p, before[name][2])
    GINR(inr, modulator, None, None)
    after = {name: (id(p), p.requires_grad) for name, p in inr.named_parameters()}
    assert list(after) == list(before) and after != {name: kept[:2] for name, kept in before.items()}
    prepare(inr, modulator)
    assert after == {name: (id(p), p.requires_grad) for name, p in inr.named_parameters()}


@pytest.mark.parametrize('quiet_first', [True, False])
def test_an_objective_serves_with_and_without_gradients(quiet_first):
    "What was kept without a graph is made again when gradients are asked for."
    torch.manual_seed(0)
    inr = INR(hidden=8, depth=4)
    query = lambda images: (torch.rand(9, 2), images, (1., 1.))
    model, images = GINR(inr, IPC(inr, 2, 3), None, query), torch.rand(2, 9, 3)
    code, loss = torch.randn(2, 8, 3), model.objective(images)
    seen = []
    for quiet in (quiet_first, not quiet_first, quiet_first):
        with torch.set_grad_enabled(not quiet): seen.append(loss(code))
        assert seen[-1].requires_grad != quiet
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    loss(code).sum().backward()
    assert inr.W[0].grad.abs().sum() > 0


def test_codes_join_whatever_their_form():
    both = dict(a=torch.randn(3, 2), b=torch.randn(3, 4))
    joined = concatenate([both, map_code(torch.neg, both)])
    assert torch.equal(joined['b'], torch.cat([both['b'], -both['b']])) and list(joined) == ['a', 'b']
