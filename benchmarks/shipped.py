"""Train a model that comes with the package and needs offline data only, score it, put it into data/weights.

    python benchmarks/shipped.py voices-ipc        sounds: 23 minutes of one thread
    python benchmarks/shipped.py cars-ipc          cars from one to five pictures: 20 minutes

A training that was stopped goes on. Writes benchmarks/claims/<name>.json.
"""
import argparse
import json
from pathlib import Path

from origin import commit

from instcomp.experiments.builder import load
from instcomp.experiments.run import train_preset
from instcomp.files import write
from instcomp.tasks.registry import task_of

HERE = Path(__file__).parent
MADE = {  # what it learns from, how many are held out, which scores are claims
    'voices-ipc': (dict(what='babble of 32 speakers, instcomp.data.speech.voices',
                        licence='as this package'), 256,
                   ('psnr', 'psnr_mean', 'si_sdr', 'log_spectral_distance')),
    'cars-ipc': (dict(what='cars of analytic solids, instcomp.data.synthetic_views',
                      licence='as this package'), 25,
                 ('psnr', 'interval', 'depth_error', 'psnr_white')),
}


def recipe(name, command, last, model):
    "What was trained how, and what it scores on instances it never met."
    task, config, t = task_of(model.config), model.config, model.config['train']
    data, n, _ = MADE[name]
    held_out = task.evaluation(config['data'], n, 0)
    score = task.evaluate(model, held_out, 0, task.protocol(config['data'], len(held_out), 0))
    kept = {k: round(v, 3) if isinstance(v, float) else v for k, v in score.items() if v is not None}
    return dict(name=name, command=command, preset=name, seed=t['seed'], steps=t['steps'], batch=t['batch'],
                device='cpu', threads=1, precision='fp32', train_seconds=round(last['seconds']),
                commit=commit(), data=[data], held_out=kept | dict(command=f'instcomp eval {name} --json'))


def claims(recipe):
    "The held-out numbers, for claims/<name>.json."
    about = dict(command=f'{recipe["command"]} && {recipe["held_out"]["command"]}', seed=recipe['seed'],
                 device='cpu', threads=1, commit=recipe['commit'])
    topic = recipe['name'].replace('-', '_')
    return {f'{topic}_{key}': dict(value=recipe['held_out'][key]) | about for key in MADE[recipe['name']][2]}


def ship(name, out, command):
    "Copy a finished run to data/weights, with its recipe, and note its claims."
    model = load(out, 'cpu')
    last = json.loads((out/'metrics.jsonl').read_text().splitlines()[-1])
    kept = recipe(name, command, last, model)
    text = lambda v: (json.dumps(v, indent=1) + '\n').encode()
    files = {file: (out/file).read_bytes() for file in ('config.json', 'model.safetensors')}
    write(HERE.parent/'data/weights'/name, files | {'recipe.json': text(kept)})
    write(HERE/'claims', {f'{name.replace("-", "_")}.json': text(claims(kept))})
    print(json.dumps(kept['held_out'], indent=1))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('name', choices=MADE)
    p.add_argument('--out', type=Path, help='where the run lies; runs/NAME unless given')
    args = p.parse_args()
    out = args.out or Path('runs')/args.name
    train_preset(args.name, out, device='cpu', precision='fp32', resume=True, bar=False)
    ship(args.name, out, f'python benchmarks/shipped.py {args.name}')


if __name__ == '__main__': main()
