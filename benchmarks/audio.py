"""IPC beside TransINR on sound: windows of 1 s and 3 s, equal processor time, equal encoder, codes of about
equal size; and what the place of the modulated layer does. Each cell is kept when it is done: a killed
run goes on.

    python benchmarks/audio.py [--seconds 90] [--seeds 1] [--folder FOLDER] [--log]
    python benchmarks/audio.py --patient --seconds 360 [--seeds 1]
    python benchmarks/audio.py --patient --length 3 --seconds 900 [--seeds 1]
    python benchmarks/audio.py --location --seconds 45 [--seeds 1]
"""
import argparse
import json
import math
import time
from functools import partial
from pathlib import Path

import torch
from origin import commit

from instcomp.data.batches import Batches
from instcomp.experiments.builder import build
from instcomp.experiments.catalog import row
from instcomp.files import write
from instcomp.models.codes import code_size
from instcomp.tasks.registry import task_of
from instcomp.training.loop import fit

HERE = Path(__file__).parent
KEPT = HERE/'audio.json'
METHODS = ('ipc', 'transinr')
LOG = dict(name='log_spaced', m=256, sigma=250.)
PLACES = dict(size=512, inr=dict(hidden=[128]*4), encoding=dict(m=64))


def trained(config, data, seed, seconds):
    "A model after `seconds` of this process's time, the rate falling along half a cosine; and its curve."
    torch.manual_seed(seed)
    model = build(config)
    task = task_of(model.config)
    t, source = model.config['train'], task.source(data, 'train')
    source.augment = model.config['augment']
    batches, drawing = Batches(source, config['size'], t['batch'], seed, steps=10**9), torch.Generator()
    held_out, curve, began = task.evaluation(data, 64, 0), [], time.process_time()
    how = {k: t[k] for k in ('noise', 'subsample', 'fraction')}
    done = lambda: min(1., (time.process_time() - began)/seconds)
    course = lambda i: min(1., (i + 1)/t['warmup'])*.5*(1 + math.cos(math.pi*done()))

    def loss(i):
        sounds = batches[i]
        return model.losses(model.encode(sounds), sounds, **how, generator=drawing.manual_seed(i)).mean()

    opt = torch.optim.AdamW(model.parameters(), t['lr'], tuple(t['betas']), weight_decay=t['weight_decay'])
    for s in fit(loss, opt, 10**9, 0, course, t['clip']):
        if done() >= (len(curve) + 1)/6:
            paused = time.process_time()
            model.eval()
            curve.append((s.step, task.evaluate(model, held_out[:32])['psnr']))
            model.train()
            began += time.process_time() - paused                       # scoring is not training
        if done() >= 1: break
    return model.eval().requires_grad_(False), task, s.step, curve


def cell(config, data, seed, seconds, refine):
    "Train, score, and what is needed to read the score."
    model, task, steps, curve = trained(config, data, seed, seconds)
    held_out = task.evaluation(data, 64, 0)
    protocol = task.protocol(Path(data).name, len(held_out), 0)
    result = task.evaluate(model, held_out, 0, protocol)
    if refine: result |= dict(psnr_refined=task.evaluate(model, held_out[:16], refine)['psnr_refined'])
    return result | dict(steps=steps, curve=curve, seconds=seconds, seed=seed,
                         parameters=sum(p.numel() for p in model.parameters()),
                         code_numbers=code_size(model.modulator.code_shape))


def kept():
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def compared(seeds, folder, log):
    "The cells of the comparison: name, row, data, seed."
    for seed in range(seeds):
        for length in (1, 3):
            for method in METHODS:
                name = f'audio{length}s_{method}' + ('_folder' if folder else '') + ('_log' if log else '')
                config = row(f'audio-{method}-tiny-{length}s')
                if log: config['encoding'] = LOG
                yield f'{name}/{seed}', config, folder or 'voices', seed


def patient(seeds, folder, log, length=1):
    "More time. 1 s: for TransINR, to make as many steps as IPC does in the comparison; 3 s: for both."
    for seed in range(seeds):
        for method in METHODS if length == 3 else ['transinr']:
            config = row(f'audio-{method}-tiny-{length}s')
            yield f'audio{length}s_{method}_patient/{seed}', config, 'voices', seed


def placed(seeds, folder, log):
    "One window, one width, the composer at each of the five layers."
    for seed in range(seeds):
        for place in range(5):
            config = row('audio-ipc-tiny')
            config |= {k: (config[k] | v if isinstance(v, dict) else v) for k, v in PLACES.items()}
            config['modulator'] = dict(name='ipc', layer=place, rank=16)
            yield f'audio_location_{place + 1}/{seed}', config, folder or 'voices', seed


def claims(table):
    "The means over seeds as claims/audio.json."
    found, said = {}, {}
    for name, result in table.items(): found.setdefault(name.split('/')[0], []).append(result)
    for key, results in found.items():
        where = ''.join(f' --{word}' for word in ('location', 'patient') if word in key)
        where += ' --length 3'*('patient' in key and '3s' in key)
        where += ' --folder FOLDER'*('folder' in key) + ' --log'*('log' in key.split('_'))
        seconds = results[0]['seconds']
        about = dict(command=f'python benchmarks/audio.py{where} --seconds {seconds} --seeds {len(results)}',
                     seed=[r['seed'] for r in results], device='cpu', threads=1, commit=results[-1]['commit'])
        names = {'psnr': key.replace('location_', 'location_psnr_')}
        if 'location' in key: names['psnr_refined'] = key.replace('location_', 'location_refined_psnr_')
        for of, name in names.items():
            said[name] = dict(value=round(sum(r[of] for r in results)/len(results), 2)) | about
    write(HERE/'claims', {'audio.json': (json.dumps(said, indent=1) + '\n').encode()})


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--seconds', type=float, default=90, help='of processor time for each training')
    p.add_argument('--seeds', type=int, default=1)
    p.add_argument('--folder', help='train and score on these sounds instead of the offline voices')
    p.add_argument('--location', action='store_true', help='the place of the composer instead')
    p.add_argument('--patient', action='store_true', help='more time where 90 s are not enough')
    p.add_argument('--length', type=int, choices=(1, 3), default=1, help='of --patient windows, seconds')
    p.add_argument('--log', action='store_true', help="the paper's log-spaced frequencies in both methods")
    args = p.parse_args()
    torch.set_num_threads(1)
    more = partial(patient, length=args.length)
    cells = placed if args.location else more if args.patient else compared
    for name, config, data, seed in cells(args.seeds, args.folder, args.log):
        if name in kept(): continue
        result = cell(config, data, seed, args.seconds, 60 if args.location else 0) | dict(commit=commit())
        print(name, round(result['psnr'], 2), result['steps'], flush=True)
        write(HERE, {KEPT.name: json.dumps(kept() | {name: result}, indent=1).encode()})
    claims(kept())


if __name__ == '__main__': main()
