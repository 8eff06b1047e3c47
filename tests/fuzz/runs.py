"Run folders as a broken disk, another tool or an attacker leaves them: loaded, then resumed."
import json
import shutil
import struct
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from instcomp import load
from instcomp.experiments.builder import build
from instcomp.experiments.catalog import row
from instcomp.schema import resolve
from instcomp.training.checkpoint import json_file, last_line
from instcomp.training.trainer import train

NAMED = True
JSONS = ('config.json', 'state/state.json')
TENSORS = ('model', 'state/model', 'state/optim', 'state/ema')
WILD = [None, True, False, 0, 1, -1, 3, .5, 1e308, -1e-300, 10**30, 2**31, '', 'x', '3', 'a\nb', 'é'*2000,
        [], {}, [1], [[0, 0]], {'name': 'ipc'}, {'a': {'b': 1}}, float('nan'), float('inf'), [None]*50]


class Drawn:
    "Batches that are a function of the step."
    def __getitem__(self, i): return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(i))


def row_of(steps):
    small = dict(size=8, inr=dict(hidden=8, depth=3), modulator=dict(rank=4),
                 encoder=dict(patch=4, dim=8, depth=1, heads=1, head_dim=8, mlp_dim=8),
                 train=dict(steps=steps, every=2, batch=2, ema=.9))
    base = row('image-ipc-tiny')
    known = {key: {k: v for k, v in value.items() if k in base[key]} if isinstance(value, dict) else value
             for key, value in small.items()}
    return resolve(dict(preset='image-ipc-tiny') | base, known)


def go(out, steps, resume):
    torch.manual_seed(0)
    model = build(row_of(steps))
    data = dict(name='mine', files=3, sha256='00ff')
    how = dict(device='cpu', precision='fp32', bar=False, data=data)
    return train(model, model.config, Drawn(), out, resume=resume, **how)


@lru_cache(maxsize=1)
def base():
    "A run at step 4, built once: its files as bytes."
    with tempfile.TemporaryDirectory() as home:
        go(Path(home)/'run', 4, False)
        found = [f for f in (Path(home)/'run').rglob('*') if f.is_file()]
        return {f.relative_to(Path(home)/'run'): f.read_bytes() for f in found}


# ---- what happens to a run

def pick(rng, things): return things[int(rng.integers(len(things)))]


def some_bytes(rng, run):
    "Flipped, cut, grown or blanked."
    path = pick(rng, sorted(f for f in run.rglob('*') if f.is_file()))
    data, n = bytearray(path.read_bytes()), int(rng.integers(1, 9))
    a, b = sorted(int(i) for i in rng.integers(0, len(data) + 1, size=2))
    way = rng.integers(6)
    if way == 0:
        for i in rng.integers(0, max(1, min(len(data), 400)), size=n): data[i:i+1] = rng.bytes(1)
    elif way == 1: data = data[:a]
    elif way == 2: data[a:a] = rng.bytes(n)
    elif way == 3: data[a:b] = bytes(b - a)
    elif way == 4: data = data + data[a:b]
    else: del data[a:b]
    path.write_bytes(data)


def some_file(rng, run):
    "Gone, empty, a folder, a link, another's, left by a kill."
    path, way = pick(rng, sorted(run.rglob('*'))), rng.integers(7)
    if path.is_dir() and way < 5: path.rename(run/pick(rng, ['state.old', 'state.new', 'lost']))
    elif way == 0: path.unlink()
    elif way == 1: path.write_bytes(b'')
    elif way == 2:
        path.unlink()
        path.mkdir()
    elif way == 3:
        path.unlink()
        path.symlink_to(pick(rng, ['nowhere', '/dev/null', '.', str(run), path.name]))
    elif way == 4: shutil.copyfile(pick(rng, sorted(run.glob('*.*'))), path)
    elif way == 5:                                           # links stay links: one may lead anywhere
        to = run/pick(rng, ['state.old', 'state.new'])
        shutil.copytree(run/'state', to, symlinks=True, dirs_exist_ok=True)
    else: (run/pick(rng, ['lock', '.config.json.77', 'state.new'])).write_bytes(rng.bytes(30))


def some_value(rng, run):
    "Of config.json or state.json: other, gone or new."
    path = run/pick(rng, JSONS)
    value = json.loads(path.read_bytes())
    at = value
    while isinstance(at[key := pick(rng, sorted(at))], dict) and at[key] and rng.random() < .7: at = at[key]
    way = rng.random()
    if way < .15: del at[key]
    elif way < .25: at[pick(rng, ['new', 'name', 'x.y', 'depth'])] = pick(rng, WILD)
    elif way < .4 and type(at[key]) in (int, float): at[key] = at[key]*pick(rng, [-1, 2, 10, .5, 1000, 1]) + 1
    else: at[key] = pick(rng, WILD)
    path.write_text(json.dumps(value))


def some_json(rng, run):
    "No JSON, or not ours."
    deep = int(rng.integers(1, 60000))
    texts = ['['*deep, '['*deep + ']'*deep, '{"a":'*deep, 'null', '3', '[]', '{}', '{"format": 2}', '"step"',
             '\ufeff{}', '{"step": 3, "step": 4}', '9'*deep, '{"train": {}, "format": 1}']
    (run/pick(rng, [*JSONS, 'metrics.jsonl'])).write_text(pick(rng, texts))


def some_lines(rng, run):
    "Of metrics.jsonl: twice, gone, turned, torn, foreign."
    path = run/'metrics.jsonl'
    lines = path.read_bytes().splitlines(keepends=True) or [b'\n']
    odd = [b'{}\n', b'{"step": 99}\n', b'{"step": 1}\n', b'{"step": 2, "loss": NaN}\n', b'[]\n', b'\n',
           b'\xff\n', b'{"step"', b'{"step": 3, "psnr": "a"}\n', b'{"step": %d}\n' % 10**40, bytes(5000)]
    for _ in range(int(rng.integers(1, 4))):
        i, way = int(rng.integers(len(lines))), rng.integers(4)
        if way == 0: lines.insert(i, lines[i])
        elif way == 1 and len(lines) > 1: del lines[i]
        elif way == 2: lines.reverse()
        else: lines.insert(i, pick(rng, odd))
    path.write_bytes(b''.join(lines))


def some_tensor(rng, run):
    "Of weights or of the optimiser: another name, shape, type or number."
    path = run/f'{pick(rng, TENSORS)}.safetensors'
    tensors = load_file(path)
    name, way = pick(rng, sorted(tensors)), rng.integers(8)
    t = tensors[name]
    names = ['x', 'a/b', 'exp_avg/x', '', 'prior.t', 'a\nb', 'x'*3000]
    types = [torch.float64, torch.float16, torch.int32, torch.bool, torch.uint8]
    if way == 0: tensors[pick(rng, names)] = tensors.pop(name)
    elif way == 1: del tensors[name]
    elif way == 2: tensors[name] = pick(rng, [t[None], t.new_zeros(0), t.new_zeros(3, 3)]).clone()
    elif way == 3: tensors[name] = t.to(pick(rng, types))
    elif way == 4: tensors[name] = torch.full_like(t, pick(rng, [float('nan'), float('inf'), -1., 1e30, 7.]))
    elif way == 5: tensors |= {'more': torch.zeros(2), 'step/more': torch.zeros(())}
    elif way == 6: tensors = {}
    else: tensors[name] = (t.double()*1e300).contiguous()
    save_file(tensors, path)


def some_header(rng, run):
    "Of a safetensors file: shapes, types and places that the numbers do not have."
    path = run/f'{pick(rng, TENSORS)}.safetensors'
    data = path.read_bytes()
    n, = struct.unpack('<Q', data[:8])
    header = json.loads(data[8:8+n])
    entry = header[pick(rng, sorted(k for k in header if k[0] != '_'))]
    key = pick(rng, sorted(entry))
    entry[key] = pick(rng, [[0, 0], [2**40]*2, [-1], [1, 4], [2**63, 1], 'F8_E5M2', 'C64', 'I64', *WILD])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', pick(rng, [len(text), len(text), 2**62, 0])) + text + data[8+n:])


DONE = (ValueError, OSError, KeyError, IndexError, TypeError, AttributeError, RecursionError, SafetensorError,
        struct.error)
HARMS = [some_bytes, some_file, some_value, some_value, some_json, some_lines, some_tensor, some_header]


def make(rng, folder):
    "A run folder, harmed once, sometimes twice or not at all."
    run = folder/'run'
    for name, data in base().items():
        (run/name).parent.mkdir(parents=True, exist_ok=True)
        (run/name).write_bytes(data)
    for _ in range(pick(rng, [0, 1, 1, 1, 1, 1, 2])):
        try: pick(rng, HARMS)(rng, run)
        except DONE: pass                                    # the second harm does not fit the first
    return run


def warm():
    "All that is imported and built once."
    with tempfile.TemporaryDirectory() as home:
        for name, data in base().items():
            (Path(home)/'run'/name).parent.mkdir(parents=True, exist_ok=True)
            (Path(home)/'run'/name).write_bytes(data)
        use(Path(home)/'run')


# ---- and what is done with it

def use(run):
    "As `instcomp eval` and `instcomp train --resume` do. Each refusal one line that names the run."
    found = []
    for step in (score, resume):
        try: step(run)
        except (ValueError, OSError) as error: found.append(error)
    if found: raise found[0]


def command(run, out):
    "Words of a command that reads the run; its outputs go into `out`."
    return ['eval', run, '--data', 'photos', '--n', 2, '--device', 'cpu', '--out', out]


def score(run):
    model = load(run, 'cpu')
    with torch.no_grad(): code = model.encode(torch.rand(1, 3, model.config['size'], model.config['size']))
    largest = max(float(p.abs().max()) for p in model.parameters())
    assert torch.isfinite(code).all() or largest > 1e6, largest                  # finite, and beyond all use
    assert isinstance(last_line(run/'metrics.jsonl'), dict)


def numbers(run):
    kinds, places = ('.json', '.jsonl', '.safetensors'), ('state', 'run')
    found = (f for f in run.rglob('*.*') if f.suffix in kinds and f.parent.name in places and f.is_file())
    return {f: f.read_bytes() for f in found if f.name[0] != '.'}


def resume(run):
    before = numbers(run)
    try: last = go(run, 6, True)
    except FloatingPointError as error: raise ValueError(str(error)) from error       # it trained, and broke
    except (ValueError, OSError) as error:
        said = str(error)
        assert '\n' not in said and str(run) in said and len(said) < 2000, said
        after = numbers(run)
        untouched = all(after.get(file) == data for file, data in before.items())
        assert untouched or 'no line left' in said, said
        raise
    assert last['step'] == 6 and json_file(run/'state'/'state.json')['step'] == 6
    lines = (run/'metrics.jsonl').read_bytes().split(b'\n')      # a return in a line is JSON's white space
    steps = [json.loads(line)['step'] for line in lines if line]
    assert steps == sorted(set(steps)) and steps[-1] == 6, steps
    load(run, 'cpu')


