"""Seconds that each chapter takes from an empty kernel, into claims/chapters.json.

    python benchmarks/chapters.py [NAME ...]      names such as 04 or 12_image; default: all

Each runs in an empty folder; saved outputs stay as they are. One that fails is named and gets no figure.
Run it on a machine that does nothing else.
"""
import argparse
import os
import sys
import tempfile
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from origin import HERE, add, commit

from instcomp.course import chapters


def seconds(path):
    "Wall-clock seconds from the start of the kernel to the last cell."
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        NotebookClient(book, timeout=600, resources=dict(metadata=dict(path=home))).execute()
        return time.perf_counter() - began


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument('names', nargs='*', help='the beginnings of names')
    words.add_argument('--note', help='what else the machine did')
    given = words.parse_args()
    threads = int(os.environ.get('OMP_NUM_THREADS', os.cpu_count()))
    note = dict(note=given.note) if given.note else {}
    broken = []
    for path in chapters():
        if given.names and not path.stem.startswith(tuple(given.names)): continue
        try: took = seconds(path)
        except CellExecutionError as error:
            broken.append(path.stem)
            print(f'{path.stem} did not run through: {error}', flush=True)
            continue
        claim = dict(value=round(took, 1), command='python benchmarks/chapters.py', seed=0,
                     device='cpu', threads=threads, commit=commit()) | note
        add(HERE/'claims'/'chapters.json', {f'chapter_{path.stem[:2]}_seconds': claim})
        print(path.stem, claim['value'], flush=True)
    if broken: sys.exit(f'not measured: {", ".join(broken)}')


if __name__ == '__main__': main()
