"""Memory and seconds of a 1024 x 1024 view of a tiny model, with the slices that `render` chooses itself.

    python benchmarks/large_view.py         2, 28 and 28 + 28 samples a ray, each in a process of its own

Peak of the whole process, PyTorch included. Writes benchmarks/claims/large_view.json.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from origin import commit

from instcomp.experiments.builder import build
from instcomp.geometry.camera import orbit_pose, pinhole
from instcomp.models.radiance import render_views

CLAIMS = Path(__file__).parent/'claims'/'large_view.json'
WAYS = {'2': dict(n=2), '28': dict(n=28), '28_28': dict(n=28, fine=28)}


def look(way, size):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, began = build('nvs-ipc-tiny-cars', 'cpu').eval(), time.process_time()
    code = torch.randn(1, *model.modulator.code_shape)
    render_views(model, code, orbit_pose(30, 20), pinhole(size, size, .54), (size, size), **WAYS[way])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20
    return dict(gb=peak, seconds=time.process_time() - began)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--way', choices=list(WAYS), help='only this one, printed and not kept')
    p.add_argument('--size', type=int, default=1024)
    a = p.parse_args()
    if a.way: return print(json.dumps(look(a.way, a.size)))
    said = dict(command='python benchmarks/large_view.py', seed=0, device='cpu', threads=1, commit=commit())
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, '--way', way, '--size', str(a.size)]
        got = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(way, got, flush=True)
        for key, value in got.items():
            found[f'large_view_{key}_{way}'] = dict(value=round(value, 2), **said)
    CLAIMS.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
