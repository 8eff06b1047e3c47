"""Seconds of one thread for the 50 views of 128 x 128 of an object, the mean over some objects of a family.

    python benchmarks/objects.py                      ten objects of each family
    python benchmarks/objects.py --objects 3 chair    a look

Processor time, so that a busy machine counts as a slower one only. Writes benchmarks/claims/objects.json.
"""
import argparse
import json
import time
from pathlib import Path

import torch
from origin import commit

from instcomp.data.synthetic_views import object_views
from instcomp.geometry.shapes import FAMILIES

CLAIMS = Path(__file__).parent/'claims'/'objects.json'


def seconds(family, number):
    began = time.process_time()
    object_views(family, number, 50, 128)
    return time.process_time() - began


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('families', nargs='*', default=list(FAMILIES))
    p.add_argument('--objects', type=int, default=10)
    a = p.parse_args()
    torch.set_num_threads(1)
    head = commit()
    found = json.loads(CLAIMS.read_text('utf-8')) if CLAIMS.exists() else {}
    for family in a.families:
        seconds(family, 0)                                                             # to warm up
        took = [seconds(family, k) for k in range(a.objects)]
        print(family, [round(t, 2) for t in took], flush=True)
        found[f'objects_seconds_{family}s'] = dict(
            value=round(sum(took)/len(took), 2), worst=round(max(took), 2),
            command='python benchmarks/objects.py', seed=f'objects 0 to {a.objects - 1}', device='cpu',
            threads=1, commit=head)
    CLAIMS.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
