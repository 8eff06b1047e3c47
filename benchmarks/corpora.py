"""A corpus of pictures becomes codes: memory, kills, bad files, two processes; labels read off codes.

    python benchmarks/corpora.py encode FOLDER       random crops, 64 x 64, of a folder of photographs
    python benchmarks/corpora.py clothes FOLDER      train/, test/, manifest.tsv (file, orig: a/b/CLASS/c)
    python benchmarks/corpora.py digits FOLDER       train/ and test/ of sounds, CLASS_*.wav

`encode` wants two idle cores for six minutes; each process has one thread. Throughput is that of the signals
behind the first 1,000 or tenth, so that loading Python and the model does not count. Writes
benchmarks/claims/corpora.json.
"""
import argparse
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from origin import add, commit

from instcomp.data.batches import Folder, list_files
from instcomp.data.code_folders import CodeFolder
from instcomp.data.images import read_image, write_image
from instcomp.evaluation.metrics import frame_length
from instcomp.evaluation.retrieval import linear_probe, nearest
from instcomp.experiments.builder import load
from instcomp.experiments.corpora import vectors
from instcomp.tasks.audio import AudioTask
from instcomp.tasks.registry import task_of

HERE, MODEL, SIZE, BAD, NEAR = Path(__file__).parent, 'photos-ipc', 64, 100, 5
TORCHRUN = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']


# ---- encode
def crops(folder, n, out):
    "`n` crops as PNG files; the middle one of every hundred is cut short."
    source, out = Folder(folder), out/'crops'
    out.mkdir()
    for k in range(n):
        rng = np.random.default_rng((0, k))
        path = out/f'{k:06}.png'
        write_image(source.view(int(rng.integers(len(source))), SIZE, rng), path)
        if k % BAD == BAD//2: path.write_bytes(path.read_bytes()[:200])
    return out


def some(files, out):
    "A list of files."
    out.write_text(''.join(f'{file}\n' for file in files))
    return f'@{out}'


def started(words, processes=1, model=MODEL):
    "The command in processes of one thread each."
    env = os.environ | dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE', PYTHONPATH=str(HERE.parent))
    call = [sys.executable, *(TORCHRUN if processes > 1 else []), '-m', 'instcomp.cli', 'encode']
    call += [*map(str, words), '--model', model, '--device', 'cpu', '--shard', '250']
    return subprocess.Popen(call, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(process):
    "(what it said, peak memory in MB) of a command that ended well."
    said = process.stderr.read()
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode: raise SystemExit(f'{process.args}: {said}')
    return said, used.ru_maxrss/1024


def timed(words, processes=1):
    "(seconds, what it said, MB)."
    began = time.perf_counter()
    said, memory = ended(started(words, processes))
    return time.perf_counter() - began, said, memory


def contents(folder):
    "Names and hashes of all files of a folder."
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def killed(words, out, seconds, rng):
    "Kill the command twice, after a random part of the seconds it takes undisturbed; then let it end."
    shards = []
    for _ in range(2):
        process = started(words)
        time.sleep(rng.uniform(.15, .45)*seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        shards.append(len(list(out.glob('codes-*'))))
        if (out/'index.json').exists(): raise SystemExit(f'it was done before it was killed: {shards}')
    ended(started(words))
    return shards


def encode(folder, n):
    "The proofs of the issue of corpora, on crops of a folder of photographs."
    with TemporaryDirectory() as home:
        home = Path(home)
        files = sorted(crops(folder, n, home).iterdir())
        few, all_ = some(files[:n//10], home/'few.txt'), some(files, home/'all.txt')
        runs = {(name, p): timed([word, '-o', f'{home}/{name}{p}/'], p)
                for name, word in (('few', few), ('all', all_)) for p in (1, 2)}
        for key, run in runs.items(): print(*key, f'{run[0]:.1f} s, {run[2]:.0f} MB', flush=True)
        seconds, said, memory = runs['all', 1]
        words = [all_, '-o', f'{home}/killed/']
        shards = killed(words, home/'killed', seconds, np.random.default_rng(0))
        print('shards at the kills', shards, said.strip()[:200])
        known, index = contents(home/'all1'), json.loads((home/'all1/index.json').read_text())
        rate = {p: .9*n/(runs['all', p][0] - runs['few', p][0]) for p in (1, 2)}
        bad = [str(file) for k, file in enumerate(files) if k % BAD == BAD//2]
        return dict(pictures=n, memory_first_tenth=round(runs['few', 1][2], 1), memory_all=round(memory, 1),
                    memory_ratio=round(memory/runs['few', 1][2], 3),
                    killed_twice_identical=int(contents(home/'killed') == known),
                    two_processes_identical=int(contents(home/'all2') == known),
                    skipped=len(index['skipped']),
                    skipped_are_the_corrupt=int([key for key, _ in index['skipped']] == bad),
                    signals_a_second=round(rate[1], 1), two_processes=round(rate[2]/rate[1], 3),
                    two_processes_with_start=round(seconds/runs['all', 2][0], 3))


# ---- labels
def described(place, model):
    "Codes as vectors, labels (the last folder of a key), keys."
    net, codes = load(model, 'cpu'), CodeFolder(place)
    x = torch.cat(list(vectors(net, task_of(net.config), codes)))
    return x, [key.split('/')[-2] for key in codes.keys], codes.keys


def scored(x, y, test_x, test_y):
    "Of one kind of vectors: the probe, and how many of the nearest in training are of the same class."
    names = sorted({*y, *test_y})
    y, test_y = (torch.tensor([names.index(label) for label in labels]) for labels in (y, test_y))
    _, rows = nearest(test_x, [x], NEAR)
    found = linear_probe(x, y, test_x, test_y)
    near = y[rows].eq(test_y[:, None]).float().mean().item()
    return dict(probe=round(found['accuracy'], 4), nearest=round(near, 4)), found


def labelled(model, homes, rivals):
    "Scores of codes and others. `homes`: train, test, a folder a class; rivals: name -> (file -> (D,))."
    scores, sets = {}, []
    for home in homes:
        ended(started([home, '-o', f'{home}-codes/'], model=model))
        sets.append(described(Path(f'{home}-codes'), model))
    (x, y, keys), (test_x, test_y, test_keys) = sets
    scores['codes'], found = scored(x, y, test_x, test_y)
    for name, vector in rivals.items():
        read = lambda home, keys: torch.stack([vector(home.parent/key) for key in keys])
        scores[name], _ = scored(read(homes[0], keys), y, read(homes[1], test_keys), test_y)
    flat = {f'{name}_{what}': value for name, pair in scores.items() for what, value in pair.items()}
    return flat | dict(commonest=round(found['majority'], 4), test=found['n'], train=found['n_train'],
                       numbers=x.shape[1])


def clothes(folder):
    "Ten classes of clothing: photographs reduced to 64 x 64, one code of `photos-ipc` each."
    def pixels(path):                                        # 36 x 36 x 3 = 3,888 numbers; a code has 4,096
        return F.interpolate(read_image(path)[None], (36, 36), mode='bicubic', antialias=True).flatten()
    with TemporaryDirectory() as home, open(folder/'manifest.tsv', newline='') as table:
        for row in csv.DictReader(table, delimiter='\t'):
            file = Path(row['file'])
            out = Path(home)/file.parent/row['orig'].split('/')[-2]
            out.mkdir(parents=True, exist_ok=True)
            image = F.interpolate(read_image(folder/file)[None], (SIZE, SIZE), mode='bicubic', antialias=True)
            write_image(image[0].clamp(0, 1), out/f'{file.stem}.png')
        return labelled(MODEL, [Path(home)/'train', Path(home)/'test'], dict(pixels=pixels))


def spectrum(path):
    "Mean and spread over time of the log spectrum at 16 kHz."
    sound, _ = AudioTask(dict(task=dict(rate=16_000))).read(path)
    n = frame_length(16_000)
    frames = torch.stft(sound[0], n, window=torch.hann_window(n), return_complex=True)
    frames = frames.abs().clamp(min=1e-4).log()
    return torch.cat([frames.mean(1), frames.std(1, correction=0)])


def digits(folder):
    "Spoken digits: codes of `speech-local`, mean and spread over the places."
    with TemporaryDirectory() as home:
        for file in list_files(folder, ('.wav',)):
            out = Path(home)/file.relative_to(folder).parts[0]/file.name.split('_')[0]
            out.mkdir(parents=True, exist_ok=True)
            os.symlink(file.resolve(), out/file.name)
        return labelled('speech-local', [Path(home)/'train', Path(home)/'test'], dict(spectrum=spectrum))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('what', choices=['encode', 'clothes', 'digits'])
    p.add_argument('folder', type=Path)
    p.add_argument('--n', type=int, default=10_000)
    p.add_argument('--out', type=Path, default=HERE/'claims'/'corpora.json')
    args = p.parse_args()
    torch.set_num_threads(1)
    part = dict(encode=partial(encode, n=args.n), clothes=clothes, digits=digits)[args.what]
    what = part(args.folder)
    about = dict(command=f'python benchmarks/corpora.py {args.what} FOLDER', seed=0, device='cpu', threads=1,
                 commit=commit())
    add(args.out, {f'corpora_{args.what}_{key}': dict(value=value) | about for key, value in what.items()})
    print(json.dumps(what, indent=1))


if __name__ == '__main__': main()
