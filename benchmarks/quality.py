"""Time to quality: the held-out PSNR of a method against the time that its training took, three seeds.

    python benchmarks/quality.py                     goes on where benchmarks/quality.json ends
    python benchmarks/quality.py --task images       one of: images, sounds, views
    python benchmarks/quality.py --claims            runs nothing: claims/quality.json anew from the table
    python benchmarks/quality.py --charts FOLDER     runs nothing: one chart a task, from the table

All methods of a task see the same signals and answer for the same held-out ones; a row is a tiny preset, or
made of one. Time is *processor time of one thread*, drawing of batches and checkpoints included, scoring left
out: on a machine that others use, the wall clock would tell their story. A training has as many steps as fit
into its time at the least time that a step of it took; the learning rate ends at zero there. PCA is fitted to
1, 4, 16 ... batches: each point is a fit of its own, with the drawing. Nothing is chosen on what is scored.

May be killed at any time: runs lie in --runs and are resumed, what is in the table is not run again.
"""
import argparse
import json
import statistics
import sys
import time
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from origin import commit

from instcomp.data.batches import Batches, Crops, photos
from instcomp.data.datasets import evaluation_images
from instcomp.evaluation.plot import save, spread
from instcomp.experiments.ablations import override
from instcomp.experiments.builder import build, resolve
from instcomp.experiments.catalog import row
from instcomp.experiments.local import local_row
from instcomp.files import put
from instcomp.models.local import LocalCodec
from instcomp.tasks.audio import source as clips
from instcomp.tasks.image import ImageTask
from instcomp.tasks.local import LevelledClips, LocalBatches, is_local
from instcomp.tasks.registry import task_of
from instcomp.training.checkpoint import Stopped, read_state
from instcomp.training.loop import fit
from instcomp.training.trainer import Objective, initialise, optimizer, train

HERE = Path(__file__).parent
COMMAND = 'python benchmarks/quality.py'
SEEDS, POINTS, HELD_OUT = (0, 1, 2), 40, dict(images=64, sounds=64, views=12)
SECONDS = dict(images=90, sounds=45, views=75)           # of processor time, for each training
FEW = [4**k for k in range(6)]
BATCHES = dict(pca=FEW, pca_eighth=FEW, pca_whole=[16, 64, 256, 1024])

# As many numbers for a picture as IPC's code has: 2,048 of 3,072 values.
LOCAL = local_row('image', 'photos', 32, dict(batch=12, lr=2e-3, ema=.99),
                  dict(width=48, blocks=2, ranks=[128]))
SOUND = override(row('audio-local-tiny'), dict(size=512))
FLAT = dict(width=8, blocks=1)                           # PCA: networks that stay at zero, as they start
METHODS = {  # task: method: (its name, its row)
    'images': {
        'ipc':          ('IPC', row('image-ipc-tiny')),
        'transinr':     ('TransINR', row('image-transinr-tiny')),
        'learned_init': ('Learned Init (MAML)', row('image-learnedinit-tiny')),
        'cavia':        ('CAVIA, code of IPC', row('image-ipc-cavia-tiny')),
        'local':        ('local', LOCAL),
        'pca':          ('PCA of 8 x 8 patches', override(LOCAL, dict(encoder=FLAT))),
        'pca_eighth':   ('PCA, an eighth of the numbers', override(LOCAL, dict(
                            encoder=FLAT | dict(ranks=[16])))),
        'pca_whole':    ('PCA of whole pictures', override(LOCAL, dict(encoder=FLAT))),        # see `fitted`
    },
    'sounds': {
        'ipc':          ('IPC', row('audio-ipc-tiny')),
        'transinr':     ('TransINR', row('audio-transinr-tiny')),
        'local':        ('local', SOUND),
        'pca':          ('PCA of 64 samples', override(SOUND, dict(encoder=FLAT | dict(mixture=1)))),
    },
    'views': {
        'ipc':          ('IPC', row('nvs-ipc-tiny-cars')),
        'transinr':     ('TransINR', row('nvs-transinr-tiny-cars')),
        'learned_init': ('Learned Init (MAML)', row('nvs-learnedinit-tiny-cars')),
    },
}


class Clock:
    "Processor seconds of this process, but for those inside `paused`."
    def __init__(self, before=0.): self.began = time.process_time() - before
    def read(self): return time.process_time() - self.began
    @contextmanager
    def paused(self):
        since = time.process_time()
        yield
        self.began += time.process_time() - since


def signals(config):                                  # what a task's methods learn from: the same for all
    task = task_of(config)
    if isinstance(task, ImageTask): return Crops(photos(), augment=True)
    if is_local(config): return LevelledClips(clips(config['data'], 'train', config))
    source = task.source(config['data'], 'train')
    source.augment = config['augment']
    return source


def batches(config, steps):
    t, source = config['train'], signals(config)
    if is_local(config): source = LocalBatches(source, config)
    return Batches(source, config['size'], t['batch'], t['seed'], steps=steps)


def stepper(config):                                  # one training step of a row, its batch included
    torch.manual_seed(0)
    model, drawn, t = build(config), batches(config, 10_000), config['train']
    initialise(model, None, drawn)
    objective = Objective(model, t['noise'], t['subsample'], t['fraction'])
    steps = fit(lambda i: objective(drawn[i]).mean(), optimizer(model, t), 10_000, clip=t['clip'])
    return lambda: next(steps)


def least(config, rounds=10):                         # milliseconds of a step
    step, times = stepper(config), []
    for _ in range(rounds):
        began = time.process_time()
        step()
        times.append(1000*(time.process_time() - began))
    return round(min(times), 2)


def spent(out):
    "Processor seconds that led to a run's last checkpoint."
    found = [state for state in (out/'state', out/'state.old') if state.exists()]
    if not found: return 0.
    at, files = read_state(found[0]/'state.json')['step'], [out/'metrics.jsonl', out/'busy.jsonl']
    lines = [json.loads(line) for f in files if f.exists() for line in f.read_text('utf-8').splitlines()]
    return next(line['busy'] for line in reversed(lines) if line['step'] == at)


def trained(config, steps, held_out, out):
    "A training, or what is left of it -> its cell of the table."
    config, task = build(config).config, task_of(config)
    torch.manual_seed(config['train']['seed'])
    model, drawn, clock = build(config), batches(config, steps), Clock(spent(out))

    def score(model):
        with clock.paused(): value = task.score(model, held_out)['psnr']
        return dict(psnr=value, busy=clock.read())

    try: train(model, config, drawn, out, score, out.exists(), 'cpu', 'fp32', bar=False)
    except Stopped:                                   # saved between two scores
        last = dict(step=read_state(out/'state'/'state.json')['step'], busy=clock.read())
        put(out, {'busy.jsonl': json.dumps(last).encode()})
        raise
    log = [json.loads(line) for line in (out/'metrics.jsonl').read_text('utf-8').splitlines()]
    return dict(steps=steps, curve=[[round(line['busy'], 3), round(line['psnr'], 3)] for line in log]), model


def fitted(config, counts, held_out, whole):
    "PCA of more and more batches -> its cell of the table; `whole`: a picture is one patch."
    t, task, curve = config['train'], task_of(config), []
    model = build(config).eval()
    if whole: model.codec = LocalCodec(cell=config['size'], ranks=[2048], **FLAT)
    clock = Clock()
    drawn, u = Batches(signals(config), config['size'], t['batch'], t['seed'], steps=max(counts)), []
    for n in counts:
        u += [model.codec.patches(drawn[i]).flatten(2).mT.flatten(0, 1) for i in range(len(u), n)]
        begun = clock.read()
        model.codec.fit(torch.cat(u))
        with clock.paused(), torch.no_grad(): value = task.score(model, held_out)['psnr']
        curve.append([round(clock.read(), 3), round(value, 3)])
        clock.began += clock.read() - begun           # the next one need not fit this one
    return dict(batches=counts, curve=curve), model


def warm_up():
    "What torch loads at a process's first steps belongs to no method."
    config = override(METHODS['images']['cavia'][1], dict(train=dict(steps=2, every=1)))
    with TemporaryDirectory() as home:
        trained(config, 2, evaluation_images('photos', config['size'], 2), Path(home)/'run')


def cell(task, method, seed, ms, home):
    "One run -> what the table says of it."
    config = resolve(METHODS[task][method][1])
    steps = round(1000*SECONDS[task]/ms) if ms else 1
    config = resolve(config, dict(train=dict(seed=seed, steps=steps, every=max(1, steps//POINTS))))
    held_out = task_of(config).evaluation(config['data'], HELD_OUT[task], 0)
    if method in BATCHES: new, model = fitted(config, BATCHES[method], held_out, method == 'pca_whole')
    else: new, model = trained(config, steps, held_out, home/f'quality-{task}-{method}-{seed}')
    shape = getattr(held_out, 'shape', [0])[2:]
    busy, psnr = new['curve'][-1]
    return dict(psnr=psnr, busy=busy, ms=ms, numbers=model.code_numbers(shape),
                parameters=sum(p.numel() for p in model.parameters())) | new


def reached(curve, level):
    "Processor seconds until a level is reached for the first time, or None."
    return next((seconds for seconds, psnr in curve if psnr >= level), None)


def claims(table):
    "key -> figure with its command: the last score, its spread, and the time to what the slowest ends with."
    out = {}
    for task, rows in table['tasks'].items():
        last = {method: [cell['psnr'] for cell in cells.values()] for method, cells in rows.items()}
        level = min(map(statistics.median, last.values()))
        def keep(key, value, cells):
            about = {k: table[k] for k in ('command', 'device', 'threads', 'commit')}
            out[f'quality_{task}_{key}'] = dict(value=round(value, 2), **about, seed=', '.join(sorted(cells)))
        for method, cells in rows.items():
            keep(method, statistics.median(last[method]), cells)
            keep(f'{method}_spread', max(last[method]) - min(last[method]), cells)
            times = [reached(cell['curve'], level) for cell in cells.values()]
            if None not in times: keep(f'{method}_seconds', statistics.median(times), cells)
        keep('level', level, next(iter(rows.values())))
    return out


def charts(table, folder):
    "One picture a task: median and range over the seeds -> the files."
    for task, rows in table['tasks'].items():
        runs = {table['names'][task][method]: [cell['curve'] for cell in cells.values()]
                for method, cells in rows.items()}
        figure = spread(runs, 'processor seconds of one thread', 'held-out PSNR in dB', title=task)
        print(save(figure, folder/f'quality_{task}.png'))


class Table:
    "benchmarks/quality.json, written whole after each run."
    def __init__(self, path):
        self.path, self.origin = path, dict(command=COMMAND, device='cpu', threads=1, commit=commit())
        self.kept = json.loads(path.read_text('utf-8')) if path.exists() else dict(tasks={}, ms={})

    def write(self):
        what = ', '.join(f'{n} {task}' for task, n in HELD_OUT.items())
        protocol = (f'processor seconds of one thread, scoring left out; held out: {what}, never trained on; '
                    'PSNR in dB, peak 1, mean of per-signal values; views: of one picture, the others asked')
        names = {task: {method: name for method, (name, _) in rows.items()} for task, rows in METHODS.items()}
        self.kept = dict(protocol=protocol, **self.origin, seconds=SECONDS, names=names,
                         **{k: self.kept[k] for k in ('ms', 'tasks')})
        put(self.path.parent, {self.path.name: (json.dumps(self.kept) + '\n').encode()})
        if self.path == HERE/'quality.json':
            text = json.dumps(claims(self.kept), indent=1) + '\n'
            put(HERE/'claims', {'quality.json': text.encode()})

    def run(self, task, method, seed, home):
        "One run, unless it is there."
        cells = self.kept['tasks'].setdefault(task, {}).setdefault(method, {})
        if str(seed) in cells: return
        name, ms = f'{task} {method}', None
        if method not in BATCHES:
            ms = self.kept['ms'].get(name) or least(resolve(METHODS[task][method][1]))
            self.kept['ms'][name] = ms
        cells[str(seed)] = cell(task, method, seed, ms, home)
        self.write()
        print(name, seed, {k: v for k, v in cells[str(seed)].items() if k != 'curve'}, flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--task', choices=METHODS, help='one task')
    p.add_argument('--runs', type=Path, default=HERE.parent/'runs')
    p.add_argument('--out', type=Path, default=HERE/'quality.json')
    p.add_argument('--seconds', type=float, help='for each training, to look')
    p.add_argument('--charts', type=Path, metavar='FOLDER', help='draw what is there, run nothing')
    p.add_argument('--claims', action='store_true', help='write the claims of what is there, run nothing')
    a = p.parse_args()
    torch.set_num_threads(1)
    table = Table(a.out)
    if a.charts: return charts(table.kept, a.charts)
    if a.claims: return table.write()
    if a.seconds: SECONDS.update(dict.fromkeys(SECONDS, a.seconds))
    a.runs.mkdir(exist_ok=True)
    warm_up()
    try:
        for seed, task in product(SEEDS, [a.task] if a.task else METHODS):
            for method in METHODS[task]: table.run(task, method, seed, a.runs)
    except Stopped as stopped: sys.exit(str(stopped))

if __name__ == '__main__': main()
