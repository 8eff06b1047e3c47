"""Where a measured figure comes from: what the scripts here write beside their numbers. No benchmark itself.

    python benchmarks/origin.py      the commands that repeat what is in benchmarks/claims, one a line

Left out is what needs something from elsewhere: the authors' code, a folder of photographs.
"""
import json
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def commit():
    "The short name of the commit that is measured."
    call = ['git', 'rev-parse', '--short', 'HEAD']
    return subprocess.run(call, cwd=HERE, capture_output=True, text=True).stdout.strip()


def add(path, new):
    "Put keys into a JSON file, beside those that are there."
    old = json.loads(path.read_text('utf-8')) if path.exists() else {}
    path.write_text(json.dumps(old | new, indent=1) + '\n', 'utf-8')


def commands():
    "The distinct commands of all claims that are scripts of this folder."
    files = [json.loads(path.read_text('utf-8')) for path in sorted(HERE.glob('claims/*.json'))]
    said = dict.fromkeys(claim['command'] for claims in files for claim in claims.values())
    found = [re.fullmatch(r'python (benchmarks/[\w/]+\.py[ \w./-]*)', command) for command in said]
    return [f[1] for f in found if f and 'FOLDER' not in f[1]]


if __name__ == '__main__': print(*commands(), sep='\n')
