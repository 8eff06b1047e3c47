"""A NeRF of real photographs, fetched by this command and never part of the project: instant-ngp's fox.

    python benchmarks/real_scene.py             fetch (18 MB, once), fit, score on pictures held out
    python benchmarks/real_scene.py --folder F  the same of a folder with a transforms.json that you have
    python benchmarks/real_scene.py --source S  the same files from another address (the digest must agree)

Fifty photographs of a fox's head by a wall, with cameras by COLMAP, from github.com/NVlabs/instant-ngp at one
commit, checked by a digest. Its licence (NVIDIA Source Code License) allows non-commercial use only, so
nothing of it is kept here but the figures: `instcomp fit` at its preset's settings, every eighth picture held
out, one seed. The figures name --folder FOLDER, so that nothing repeats a download by itself. Writes
benchmarks/claims/real_scene.json unless --folder or --out says otherwise.
"""
import argparse
import hashlib
import http.client
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import torch
from origin import add, commit

from instcomp.data.datasets import data_home
from instcomp.experiments.builder import load
from instcomp.experiments.run import fit_file
from instcomp.tasks.registry import task_of

CLAIMS = Path(__file__).parent/'claims'/'real_scene.json'
SOURCE = ('https://raw.githubusercontent.com/NVlabs/instant-ngp/'
          'abe236ee00cf90cfca6e36e65c00435d5b21f50a/data/nerf/fox')
DIGEST = 'b9ea5073a2cd988bafb1ecfe6c1d0d988b5c2b2857d61fa2f27b227a23bb2b8c'
PICTURES = (      # those of the list in transforms.json that are there
    1, 2, 3, 4, 6, 7, 8, 9, 12, 14, 18, 19, 21, 22, 25, 26, 27, 29, 30, 31, 33, 34, 35, 39, 42, 44,
    45, 46, 49, 52, 54, 72, 73, 74, 76, 77, 78, 81, 84, 85, 89, 90, 94, 97, 103, 105, 107, 108, 110,
    115)


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--folder', type=Path, help='a scene on disk instead')
    p.add_argument('--source', default=SOURCE, help='where the scene is fetched from')
    p.add_argument('--steps', type=int, default=3000)
    p.add_argument('--side', type=int, default=128, help='of the pictures, in pixels')
    p.add_argument('--out', type=Path)
    return p.parse_args()


def read(address):
    "The bytes at an address. `OSError`."
    try:
        with urllib.request.urlopen(address, timeout=60) as answer: return answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f'{address}: not fetched ({error}); try again, or give --folder or --source') from None


def fetched(home, source, digest, numbers):
    "The folder of the scene, fetched beside its place if it is not there. `OSError`: nothing half-written."
    home = Path(home)
    if home.is_dir(): return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix='.scene-') as beside:
        told, scene = hashlib.sha256(), Path(beside)/'scene'
        (scene/'images').mkdir(parents=True)
        for name in ['transforms.json', *(f'images/{k:04}.jpg' for k in numbers)]:
            (scene/name).write_bytes(data := read(f'{source}/{name}'))
            told.update(data)
        if told.hexdigest() != digest:
            raise OSError(f'{source}: not the files that were measured (another digest); nothing is kept')
        os.replace(scene, home)
    return home


def measure(folder, run, steps, side):
    "Scores on the pictures held out, processor seconds of the fit."
    began = time.process_time()
    fit_file(folder, run, steps=steps, change=dict(task=dict(side=side)), device='cpu', bar=False)
    seconds, model = time.process_time() - began, load(run, 'cpu')
    task = task_of(model.config)
    protocol = task.protocol(str(folder), 1, 0)
    return task.evaluate(model, task.evaluation(str(folder), 1, 0), protocol=protocol), seconds


def main():
    a = arguments()
    torch.set_num_threads(1)
    try:
        folder = a.folder or fetched(data_home()/'scenes'/'fox', a.source, DIGEST, PICTURES)
        with tempfile.TemporaryDirectory() as home:
            result, seconds = measure(folder, Path(home)/'run', a.steps, a.side)
    except (OSError, ValueError) as error:
        print(f'real_scene.py: {error}', file=sys.stderr)
        raise SystemExit(2) from None
    found = {'psnr': round(result['psnr'], 2), 'psnr_white': round(result['psnr_white'], 2),
             'processor_seconds': round(seconds, 1)}
    print(found, result['protocol'], flush=True)
    out = a.out or (None if a.folder else CLAIMS)
    about = dict(command='python benchmarks/real_scene.py --folder FOLDER', seed=0, device='cpu',
                 threads=1, commit=commit(), steps=a.steps, side=a.side, protocol=result['protocol'])
    if out: add(out, {f'real_scene_{key}': dict(value=value) | about for key, value in found.items()})


if __name__ == '__main__': main()
