"""Feeds made-up inputs to the library, in forked workers with bounded memory, and counts what comes of them.

    python tests/fuzz/harness.py KIND N [--seed 0] [--jobs 2] [--command 300]
                                 [--out benchmarks/claims/trust.json]

KIND is a module of this folder, or `all`. It has `make(rng, folder)`, which builds one input in an empty
folder, and `use(case)`, which hands it to the library. `use` returns for a good input and raises
`ValueError` or `OSError` for a bad one: one line, which names the input where the module says NAMED = True.
Everything else is a finding: another exception, 5 seconds of processor time, 1 GB of memory, a dead worker.
A module may have `command(case, out)`: the words of a command whose outputs go into the folder `out`; so many
inputs of another seed then go through the real command, each in a process of its own: exit code 0, or 2 with
one line and nothing left. `warm()`, if there, loads what is not to be counted. Input i is a function of
(seed, i). Slices of 1,000 inputs are added to the file as they are done; the same words go on where they were
stopped, as long as library and suite are the same.
"""
import os
import sys

os.environ |= dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE')   # before torch: a fork has one thread

import argparse
import importlib.util
import json
import platform
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from itertools import chain
from multiprocessing import Pipe
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SECONDS, MEMORY, WALL, SLICE, CHUNK = 5, 2**30, 300, 1000, 500
KEPT = 40                                                            # findings kept of one kind


def kinds(): return sorted(path.stem for path in HERE.glob('*.py') if path.stem != 'harness')


def kind(name):
    "The module of a kind."
    if f'fuzz_{name}' in sys.modules: return sys.modules[f'fuzz_{name}']
    spec = importlib.util.spec_from_file_location(f'fuzz_{name}', HERE/f'{name}.py')
    module = sys.modules[f'fuzz_{name}'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- one input
def status(key):
    "Kilobytes of this process, such as VmSize."
    return int(re.search(rf'^{key}:\s+(\d+)', Path('/proc/self/status').read_text(), re.M)[1])


def said(error):
    "What the command would print."
    from instcomp.files import system_words
    return str(system_words(error) if isinstance(error, OSError) else error)


def names(folder, case):
    "What an error may call an input."
    given = case if isinstance(case, (tuple, list)) else [case]
    of_case = [Path(part).name for part in given if isinstance(part, (str, Path)) and len(str(part)) < 4000]
    return {folder.name, *of_case, *(path.name for path in folder.rglob('*'))} - {''}


def fault(error, folder, case, named):
    "What is wrong with an exception; None for one that may be."
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f'{type(error).__name__}: {str(error)[:300]!r} ({Path(where.filename).name}:{where.lineno})'
    if not isinstance(error, (ValueError, OSError)) or isinstance(error, UnicodeError): return place
    text = said(error)
    if not text.strip() or '\n' in text or len(text) > 2000: return f'not one line: {place}'
    if named and not any(name in text for name in names(folder, case)): return f'no name: {place}'


def tried(module, seed, i, home):
    "What came of input i: good or refused, a finding or None, seconds, bytes."
    rng, folder = np.random.default_rng((seed, i)), home/'input'
    folder.mkdir()
    problem, good, case, before = None, False, None, None
    try:
        case = module.make(rng, folder)
        Path('/proc/self/clear_refs').write_text('5')                # the peak counts from here
        before, began = status('VmRSS'), time.process_time()
        try: module.use(case)
        except Exception as error: problem, refused = fault(error, folder, case, module.NAMED), True
        else: refused, good = False, True
        seconds, memory = time.process_time() - began, 1024*max(0, status('VmHWM') - before)
    except Exception as error:                                       # of `make`: the suite's own mistake
        problem = f'make: {fault(error, folder, case, False) or repr(error)}'
        refused, seconds, memory = False, 0, 0
    finally: shutil.rmtree(folder)
    if seconds > SECONDS: problem = problem or f'{seconds:.1f} s of processor time'
    if memory > MEMORY: problem = problem or f'{memory/2**20:.0f} MB'
    return dict(good=good and not problem, refused=refused and not problem, problem=problem, seconds=seconds,
                memory=memory)


# ---- workers
def warm(module, seed, home):
    "A few inputs before anything is counted: what is loaded late is loaded."
    for k in range(5): tried(module, seed + 10**6, k, home)


def bounded():
    "This process may have 1 GB more than it has now; the system ends it at twice the seconds."
    most = 1024*status('VmSize') + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def work(name, seed, inputs, pipe):
    "The life of a worker: says which input it begins, then what came of it."
    with tempfile.TemporaryDirectory() as home, open(os.devnull, 'w') as null:
        for stream in (1, 2): os.dup2(null.fileno(), stream)
        module = kind(name)
        warm(module, seed, Path(home))
        bounded()
        for i in inputs:
            pipe.send(i)
            signal.setitimer(signal.ITIMER_PROF, 2*SECONDS + 2)
            pipe.send(tried(module, seed, i, Path(home)))


class Worker:
    "A forked process for some inputs; the results so far, and the input it is at."
    def __init__(self, name, seed, inputs):
        self.inputs, self.at, self.done, self.began = inputs, inputs[0], [], time.monotonic()
        self.pipe, other = Pipe(duplex=False)
        self.pid = os.fork()
        if self.pid:
            other.close()
            return
        code = 1
        try:
            work(name, seed, inputs, other)
            code = 0
        finally: os._exit(code)

    def hear(self):
        "Take in what it says; False where it has ended."
        try: word = self.pipe.recv()
        except EOFError: return False
        self.began = time.monotonic()
        if isinstance(word, dict): self.done.append(word | dict(input=self.at))
        else: self.at = word
        return True

    def end(self):
        "Wait for it; the inputs that are left if it died, with its death as a finding."
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pipe.close()
        if code == 0: return []
        why = {-signal.SIGPROF: f'over {2*SECONDS} s of processor time', -signal.SIGKILL: 'killed, or asleep'}
        self.done.append(dict(good=False, refused=False, problem=f'worker died: {why.get(code, code)}',
                              seconds=0, memory=0, input=self.at))
        return [i for i in self.inputs if i > self.at]


def hear(live):
    "Hear all workers once; returns those that have ended. One that says nothing for minutes is killed."
    ready = select.select([w.pipe for w in live], [], [], 5)[0]
    for worker in live:
        if time.monotonic() - worker.began > WALL: os.kill(worker.pid, signal.SIGKILL)
    return [w for w in live if w.pipe in ready and not w.hear()]


def attempts(name, seed, inputs, jobs):
    "The results of all inputs, in any order."
    inputs = list(inputs)
    size = min(CHUNK, -(-len(inputs)//jobs))
    waiting = [inputs[k:k + size] for k in range(0, len(inputs), size)]
    live, done = [], []
    while live or waiting:
        while waiting and len(live) < jobs: live.append(Worker(name, seed, waiting.pop(0)))
        for worker in hear(live):
            left = worker.end()
            live.remove(worker)
            done += worker.done
            if left: waiting.insert(0, left)
    return done


# ---- through the command
def called(words, home):
    "Exit code, stderr and whether anything is left of a command in a forked process; None: it was killed."
    from instcomp.cli import main
    out, log = home/'out', home/'log'
    pid = os.fork()
    if not pid:
        code = 99
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2): os.dup2(handle, stream)
            bounded()
            signal.setitimer(signal.ITIMER_PROF, 60)
            try: code = main(words)
            except BaseException: traceback.print_exc()
            sys.stdout.flush()
        finally: os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, log.read_text('utf-8', 'replace'), sorted(path.name for path in out.rglob('*'))


def command(name, seed, n):
    "How n inputs fared through the real command: counts and findings."
    module, findings, good = kind(name), [], 0
    for i in range(n):
        with tempfile.TemporaryDirectory() as home:
            home = Path(home)
            (home/'input').mkdir()
            (home/'out').mkdir()
            words = module.command(module.make(np.random.default_rng((seed, i)), home/'input'), home/'out')
            code, log, left = called([str(word) for word in words], home)
        one = log.count('\n') == 1 and log.startswith('instcomp: ')
        if code not in (0, 2) or 'Traceback' in log or code == 2 and (left or not one):
            findings.append(dict(input=i, problem=f'exit {code}, left {left[:3]}: {log[-300:]}'))
        good += code == 0
    counts = dict(value=len(findings), n=n, good=good, refused=n - good - len(findings))
    return counts | dict(findings=findings[:KEPT])


# ---- figures
def git(*words):
    return subprocess.run(['git', *words], cwd=HERE, capture_output=True, text=True).stdout.strip()


def processor():
    "The processor's name."
    found = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    return found[1] if found else platform.machine()


def origin(words, seed):
    "What stands beside every figure."
    commit = git('log', '-1', '--format=%h', '--', '../../instcomp', '.') or 'none'
    commit += '+' if git('status', '--porcelain', '--', '../../instcomp', '.') else ''
    return dict(command=f'python tests/fuzz/harness.py {words}', seed=str(seed), device='cpu', threads=1,
                commit=commit, processor=processor())


def joined(old, results):
    "Counts with those of more results."
    bad = sorted((r for r in results if r['problem']), key=lambda r: r['input'])
    listed = [dict(input=r['input'], problem=r['problem']) for r in bad]
    return dict(value=old['value'] + len(bad), n=old['n'] + len(results),
                good=old['good'] + sum(r['good'] for r in results),
                refused=old['refused'] + sum(r['refused'] for r in results),
                worst_seconds=max([old['worst_seconds'], *(round(r['seconds'], 2) for r in results)]),
                worst_megabytes=max([old['worst_megabytes'], *(r['memory'] >> 20 for r in results)]),
                findings=(old['findings'] + listed)[:KEPT])


EMPTY = dict(value=0, n=0, good=0, refused=0, worst_seconds=0, worst_megabytes=0, findings=[])


def keep(out, key, figures):
    "Put one entry into the file of figures, whole or not at all."
    from instcomp.files import put
    old = json.loads(out.read_text('utf-8')) if out.exists() else {}
    put(out.parent, {out.name: (json.dumps(old | {key: figures}, indent=1) + '\n').encode()})
    return figures


def run(name, n, seed, jobs, sample, out):
    "Try n inputs of a kind, and a sample through the command; go on where the file says."
    about, key = origin(f'{name} {n}', seed), f'fuzz_{name}'
    getattr(kind(name), 'warm', lambda: None)()                      # imported once, then forked
    found = (json.loads(out.read_text('utf-8')) if out.exists() else {}).get(key, {})
    same = all(found.get(k) == about[k] for k in ('seed', 'commit')) and '+' not in about['commit']
    state = {k: found[k] for k in EMPTY} if same else EMPTY
    for first in range(state['n'], n, SLICE):
        state = joined(state, attempts(name, seed, range(first, min(n, first + SLICE)), jobs))
        keep(out, key, about | state)
        print(f'{name}: {state["n"]:,} inputs, {state["good"]:,} good, {state["refused"]:,} refused, '
              f'{state["value"]} findings, worst {state["worst_seconds"]} s, {state["worst_megabytes"]} MB',
              flush=True)
    if sample and hasattr(kind(name), 'command'):
        about = origin(f'{name} {n}', seed + 1)
        through = keep(out, f'{key}_command', about | command(name, seed + 1, sample))
        print(f'{name}: {sample} through the command, {through["good"]} good, {through["value"]} findings')


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument('kind', choices=['all', *kinds()])
    words.add_argument('n', type=int)
    words.add_argument('--seed', type=int, default=0)
    words.add_argument('--jobs', type=int, default=2)
    words.add_argument('--command', type=int, default=300)
    words.add_argument('--out', type=Path, default=HERE.parents[1]/'benchmarks'/'claims'/'trust.json')
    given = words.parse_args()
    for name in kinds() if given.kind == 'all' else [given.kind]:
        run(name, given.n, given.seed, given.jobs, given.command, given.out.absolute())
    figures = json.loads(given.out.read_text('utf-8'))
    bad = list(chain.from_iterable(f['findings'] for f in figures.values()))
    for finding in bad: print(finding['input'], finding['problem'])
    sys.exit(bool(bad))


if __name__ == '__main__': main()
