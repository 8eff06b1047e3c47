"""Train the sound model that comes with the package on offline voices, score it, put it into data/weights.

    python benchmarks/voices_ipc.py [--out runs/voices-ipc]
"""
import argparse
import json
from pathlib import Path

from origin import commit

from instcomp.audio import evaluate, evaluation, protocol
from instcomp.learn import learn
from instcomp.modulate import write
from instcomp.presets import load

HERE = Path(__file__).parent
SHIPPED = HERE.parent/'data/weights/voices-ipc'


def recipe(last, model):
    "What was trained how, and what it scores on speakers it never heard."
    config, t = model.config, model.config['train']
    held_out = evaluation('voices', config, 256)
    score = evaluate(model, held_out, 0, protocol('voices', config, len(held_out), 0))
    kept = {k: round(v, 2) if isinstance(v, float) else v for k, v in score.items() if v is not None}
    data = dict(what='babble of 32 speakers, instcomp.sounds.voices', licence='as this package')
    return dict(name='voices-ipc', command='python benchmarks/voices_ipc.py', preset='voices-ipc',
                seed=t['seed'], steps=t['steps'], batch=t['batch'], device='cpu', threads=1, precision='fp32',
                train_seconds=round(last['seconds']), commit=commit(), data=[data],
                held_out=kept | dict(command='instcomp eval voices-ipc --json'))


def claims(recipe):
    "The held-out numbers, for claims/voices_ipc.json."
    about = dict(command=f'{recipe["command"]} && {recipe["held_out"]["command"]}', seed=recipe['seed'],
                 device='cpu', threads=1, commit=recipe['commit'])
    keys = ('psnr', 'psnr_mean', 'si_sdr', 'log_spectral_distance')
    return {f'voices_ipc_{key}': dict(value=recipe['held_out'][key]) | about for key in keys}


def ship(out, command):
    "Copy a finished run to data/weights, with its recipe, and note its claims."
    model = load(out, 'cpu')
    last = json.loads((out/'metrics.jsonl').read_text().splitlines()[-1])
    kept = recipe(last, model) | dict(command=command)
    files = {name: (out/name).read_bytes() for name in ('config.json', 'model.safetensors')}
    write(SHIPPED, files | {'recipe.json': (json.dumps(kept, indent=1) + '\n').encode()})
    write(HERE/'claims', {'voices_ipc.json': (json.dumps(claims(kept), indent=1) + '\n').encode()})
    print(json.dumps(kept['held_out'], indent=1))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--out', type=Path, default=Path('runs/voices-ipc'))
    args = p.parse_args()
    learn('voices-ipc', args.out, device='cpu', precision='fp32', resume=True, bar=False)
    ship(args.out, 'python benchmarks/voices_ipc.py')


if __name__ == '__main__': main()
