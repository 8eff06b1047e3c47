"""Where a measured figure comes from: what every script here writes beside its numbers. Not a benchmark."""
import json
import subprocess
from pathlib import Path


def commit():
    "The short name of the commit that is measured."
    call = ['git', 'rev-parse', '--short', 'HEAD']
    return subprocess.run(call, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def add(path, new):
    "Put keys into a JSON file, beside those that are there."
    old = json.loads(path.read_text('utf-8')) if path.exists() else {}
    path.write_text(json.dumps(old | new, indent=1) + '\n', 'utf-8')
