"""What `instcomp fit` reaches at its default settings: the two test photographs, a voice, a solid, a scene.

    python benchmarks/fit.py                one of each kind, and random Fourier features beside the sines
    python benchmarks/fit.py picture        one kind

Settings were chosen on the training photograph astronaut and on a training voice; nothing here was looked at.
Adds its figures to benchmarks/claims/fit.json: the score against the file, and processor seconds of the fit.
"""
import argparse
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from origin import add, commit

from instcomp.data.audio import write_sound
from instcomp.data.batches import photos
from instcomp.data.images import write_image
from instcomp.data.speech import voices
from instcomp.data.synthetic_views import write_views
from instcomp.experiments.builder import load
from instcomp.experiments.run import fit_file
from instcomp.geometry.mesh import extract_mesh, mise
from instcomp.geometry.mesh_files import write_mesh
from instcomp.geometry.shapes import solid
from instcomp.tasks.registry import task_of

CLAIMS = Path(__file__).parent/'claims'/'fit.json'
SCORES = dict(picture=['psnr'], sound=['psnr', 'si_sdr'], shape=['chamfer_of_side', 'iou'], scene=['psnr'])


def photograph(image, path, side=256):
    "The central square of a photograph, averaged down."
    n = min(image.shape[1:])
    top, left = ((k - n)//2 for k in image.shape[1:])
    square = F.interpolate(image[None, :, top:top + n, left:left + n], (side, side), mode='area')[0]
    return write_image(square, path)


def signals(home, kind):
    "(name, file, preset) of a kind."
    if kind == 'picture':
        for name, image in zip(('chelsea', 'coffee'), photos('test')):
            file = photograph(image, home/f'{name}.png')
            for preset in ('fit-picture', 'fit-picture-fourier'):
                yield name + preset.removeprefix('fit-picture').replace('-', '_'), file, preset
    if kind == 'sound':
        file = home/'voice.wav'
        write_sound(voices('test', 16_000, seconds=3.)[0].reshape(1, -1)[:, :32_000], file, 16_000)
        yield 'voice', file, 'fit-sound'
    if kind == 'shape':
        chair = solid('chair', 1000)
        file = write_mesh(extract_mesh(mise(lambda x: -chair.distance(x), 32, 2)[0]), home/'chair.ply')
        yield 'chair', file, 'fit-shape'
    if kind == 'scene':
        write_views(home, 'lamp', 1, 0, 0, views=40, size=64)
        yield 'lamp', home/'lamps'/'00000', 'fit-scene'


def measure(file, out, preset):
    "Scores against the file, processor seconds of the fit."
    began = time.process_time()
    fit_file(file, out, preset, device='cpu', bar=False)
    seconds, model = time.process_time() - began, load(out, 'cpu')
    task = task_of(model.config)
    return task.evaluate(model, task.evaluation(str(file), 1, 0)), seconds


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('kinds', nargs='*', help=' '.join(SCORES))
    p.add_argument('--out', type=Path, default=CLAIMS)
    a = p.parse_args()
    for kind in a.kinds or SCORES:
        with tempfile.TemporaryDirectory() as home:
            for name, file, preset in signals(Path(home), kind):
                result, seconds = measure(file, Path(home)/f'run-{name}', preset)
                about = dict(command=f'python benchmarks/fit.py {kind}', seed=0, device='cpu',
                             threads=torch.get_num_threads(), commit=commit(), preset=preset,
                             protocol=result['protocol'])
                found = {key: round(result[key], 4) for key in SCORES[kind]}
                found['processor_seconds'] = round(seconds, 1)
                print(name, found, flush=True)
                add(a.out, {f'fit_{name}_{key}': dict(value=value) | about for key, value in found.items()})


if __name__ == '__main__': main()
