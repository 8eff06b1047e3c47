"What the command does with outputs, bad files, signals, full memories, limits and wrong words."
import errno
import json
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import typer
from PIL import Image
from rooms import ROOT

import instcomp.cli as cli
from instcomp.data.code_files import output_names
from instcomp.experiments import builder
from instcomp.experiments.catalog import row
from instcomp.files import json_text
from instcomp.limits import limit

SMALL = dict(size=16, inr=dict(hidden=[16]*4), encoder=dict(dim=16, heads=2, ff=32), train=dict(batch=2))


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    "The folder of a tiny model of pictures."
    home = tmp_path_factory.mktemp('run')/'model'
    torch.manual_seed(0)
    builder.build(builder.resolve(row('image-ipc-tiny'), SMALL)).save(home)
    return home


@pytest.fixture
def here(tmp_path, monkeypatch, model):
    "A working folder: two pictures, a bad one, some in a folder, the model under the name `run`."
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for folder in ('some', 'out'): (tmp_path/folder).mkdir()
    for name in ('a.png', 'b.png', 'some/c.png', 'some/d.png'): picture.save(tmp_path/name)
    os.symlink(model, 'run')
    return tmp_path


def call(words, capsys):
    code = cli.main(words.split() if isinstance(words, str) else words)
    out, err = capsys.readouterr()
    return code, out, err


def files(folder):
    "Contents by name; the model's left out."
    found = {path.relative_to(folder): path for path in folder.rglob('*') if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if 'run' not in name.parts}


def refused(words, here, capsys, *named):
    "Exit code 2, one line that names what is wrong, every file as before."
    before = files(here)
    code, out, err = call(words, capsys)
    assert (code, out) == (2, '') and err.count('\n') == 1 and err.startswith('instcomp: '), err
    assert all(word in err for word in named), err
    assert files(here) == before
    return err


# ---- H8: outputs
MODEL = '--model run --device cpu'


@pytest.mark.parametrize('words', [
    f'encode a.png -o a.png {MODEL}', f'encode a.png b.png -o b.png {MODEL}',
    f'encode some -o some/d.png {MODEL}',
    f'reconstruct a.png -o a.png {MODEL}', f'reconstruct a.png -o ./out/../a.png {MODEL}',
    f'reconstruct a.png -o link.png {MODEL}', f'reconstruct link.png -o a.png {MODEL}',
    f'reconstruct a.png -o hard.png {MODEL}', f'encode some -o hard_c.png {MODEL}',
    f'encode a.png -o run/model.safetensors {MODEL}', f'encode a.png -o run/config.json {MODEL}',
    'sample run -o weights.png --device cpu'])
def test_an_input_is_never_an_output(words, here, capsys):
    "By any name, and whatever else is allowed."
    os.symlink('a.png', 'link.png')
    os.link('a.png', 'hard.png')
    os.link('some/c.png', 'hard_c.png')
    os.symlink('run/model.safetensors', 'weights.png')
    for more in ('', ' --overwrite'): refused(words + more, here, capsys, 'input')


def test_letter_case_where_it_does_not_count(here, monkeypatch, capsys):
    "As on macOS and Windows: the system says that both names are one file."
    same, exists = os.path.samefile, os.path.lexists
    low = lambda path: str(path).lower()
    monkeypatch.setattr(os.path, 'lexists', lambda path: exists(low(path)))
    monkeypatch.setattr(os.path, 'samefile', lambda a, b: same(low(a), low(b)))
    refused(f'reconstruct a.png -o A.PNG --overwrite {MODEL}', here, capsys, 'A.PNG', 'input')


def test_the_frames_of_a_scene_are_inputs(here, capsys):
    (here/'some'/'transforms.json').write_text('{}')
    os.link('some/c.png', 'some/turn.gif')                    # a second name of a frame
    words = 'reconstruct some/transforms.json -o some/turn.gif --model cars-ipc --device cpu'
    for more in ('', ' --overwrite'): refused(words + more, here, capsys, 'turn.gif', 'input')


def test_other_files_only_if_told(here, capsys):
    for words, name in [(f'encode a.png -o c.safetensors {MODEL}', 'c.safetensors'),
                        (f'reconstruct a.png -o new.png {MODEL}', 'new.png'),
                        ('decode c.safetensors -o out --device cpu --model run', 'out/a.png'),
                        ('eval run --n 2 --out out --pictures --device cpu', 'out/eval.json')]:
        assert call(words, capsys)[0] == 0
        first = (here/name).read_bytes()
        refused(words, here, capsys, name, '--overwrite')
        (here/name).write_bytes(b'mine')
        assert call(f'{words} --overwrite', capsys)[0] == 0
        assert len((here/name).read_bytes()) == len(first) or name.endswith('.json')


def test_sample_asks_too(here, capsys):
    words = 'sample inrgan-tiny -o sheet.png --n 2 --device cpu'
    assert call(words, capsys)[0] == 0
    refused(words, here, capsys, 'sheet.png', '--overwrite')
    assert call(f'{words} --overwrite', capsys)[0] == 0


def test_eval_repeats_in_a_run_folder(here, model, capsys):
    for _ in range(2): assert call('eval run --n 2 --pictures --device cpu', capsys)[0] == 0
    for name in ('eval.json', 'zoom.png', 'reconstructions.png'): (model/name).unlink()


def test_eval_leaves_pictures_of_others(here, capsys):
    "One that bears the name of ours, in a folder that is no run; a data folder's own even with --overwrite."
    os.rename('b.png', 'out/zoom.png')
    refused('eval run --n 2 --out out --pictures --device cpu', here, capsys, 'zoom.png', '--overwrite')
    words = 'eval run --data out --n 1 --out out --pictures --overwrite --device cpu'
    refused(words, here, capsys, 'zoom.png', 'input')


def test_decode_looks_at_every_name_first(here, capsys, monkeypatch):
    assert call(f'encode a.png b.png -o c.safetensors {MODEL}', capsys)[0] == 0
    monkeypatch.setattr('instcomp.tasks.image.ImageTask.decode', lambda *a: pytest.fail('decoded first'))
    refused('decode c.safetensors -o . --model run --device cpu', here, capsys, 'a.png')
    (here/'out'/'b.png').write_bytes(b'mine')
    refused('decode c.safetensors -o out --model run --device cpu', here, capsys, 'out/b.png')


def test_decode_writes_all_or_nothing(here, capsys, monkeypatch):
    "The second picture breaks, by its numbers or by a full disk: the first one is not there either."
    assert call(f'encode a.png b.png -o c.safetensors {MODEL}', capsys)[0] == 0
    whole = bytearray((here/'c.safetensors').read_bytes())
    whole[-4:] = np.float32(np.nan).tobytes()
    (here/'nan.safetensors').write_bytes(whole)
    refused('decode nan.safetensors -o out --model run --device cpu', here, capsys, 'not finite')
    save, made = Image.Image.save, []
    def full(self, path, **how):
        made.append(path)
        if len(made) > 1: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, path, **how)
    monkeypatch.setattr(Image.Image, 'save', full)
    err = refused('decode c.safetensors -o out --model run --device cpu', here, capsys, 'No space left')
    assert 'out/b.png' in err and len(made) == 2


def test_names_that_any_system_takes():
    wild = ['a\nb.png', 'nul.txt', 'x'*250 + '.png', 'é'*250 + '.png', 'a\ud800.png', 'a*?.png', '. .png',
            'a\\b:c.png']
    names = output_names([dict(file=name) for name in wild])
    assert len(set(names)) == len(wild)
    for name in names:
        assert name.isprintable() and len(name.encode()) < 255 and not set(name) & set('<>:"/\\|?*'), name
        assert not name.startswith(('nul.', '.', ' '))


# ---- bad files
@pytest.fixture
def mixed(here):
    "Also a cut file, an empty one and words among the pictures of `some`."
    (here/'some'/'cut.png').write_bytes((here/'a.png').read_bytes()[:300])
    (here/'some'/'empty.png').write_bytes(b'')
    (here/'some'/'words.jpg').write_text('these are words')
    return here


def test_bad_files_that_were_found_are_left_out(mixed, capsys):
    code, out, err = call(f'encode some a.png -o c.safetensors {MODEL}', capsys)
    assert (code, out) == (0, '') and err.count('\n') == 1
    assert '3 of 6 files' in err and all(name in err for name in ('cut.png', 'empty.png', 'words.jpg'))
    assert call('decode c.safetensors -o out --model run --device cpu', capsys)[0] == 0
    assert sorted(os.listdir('out')) == ['a.png', 'c.png', 'd.png']


def test_bad_files_that_were_named_stop(mixed, capsys):
    refused(f'encode some some/cut.png -o c.safetensors {MODEL}', mixed, capsys, 'cut.png')
    refused(f'encode a.png some/empty.png -o c.safetensors {MODEL}', mixed, capsys, 'empty.png')


def test_none_is_good(mixed, capsys):
    for name in 'cd': os.remove(f'some/{name}.png')
    refused(f'encode some -o c.safetensors {MODEL}', mixed, capsys, 'none of 3', 'cut.png')


def test_many_bad_files_are_counted(here, capsys):
    for k in range(20): (here/'some'/f'{k}.png').write_bytes(b'')
    code, _, err = call(f'encode some -o c.safetensors {MODEL}', capsys)
    assert code == 0 and '2 of 22' in err and 'and 17 more' in err and err.count('\n') == 1


def test_a_file_listed_twice_is_encoded_once_and_said(here, capsys):
    os.symlink('a.png', 'link.png')
    code, _, err = call(f'encode a.png some ./a.png link.png some/c.png -o c.safetensors {MODEL}', capsys)
    assert code == 0 and err.count('\n') == 1 and '3 listed more than once' in err and 'link.png' in err
    assert call('decode c.safetensors -o out --model run --device cpu', capsys)[0] == 0
    assert sorted(os.listdir('out')) == ['a.png', 'c.png', 'd.png']


def test_a_full_memory_is_no_bad_file(here, capsys, monkeypatch):
    def full(*a): raise MemoryError
    monkeypatch.setattr('instcomp.tasks.image.read_image', full)
    refused(f'encode some -o c.safetensors {MODEL}', here, capsys, 'out of memory', 'smaller files')


# ---- H5: a full memory
TORCH = "[enforce fail at alloc_cpu.cpp:118] data. DefaultCPUAllocator: can't allocate memory: you tried " \
        'to allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)'


@pytest.mark.parametrize('words, where, knob', [
    ('train image-ipc-tiny --out r', 'instcomp.experiments.run.train_preset', '--set train.batch'),
    ('eval run', 'instcomp.experiments.builder.load', '--n'),
    (f'encode a.png -o c.safetensors {MODEL}', 'instcomp.experiments.builder.load', 'files'),
    (f'reconstruct a.png -o o.png {MODEL}', 'instcomp.experiments.builder.load', '--scale')])
@pytest.mark.parametrize('error', [
    RuntimeError(TORCH), RuntimeError('DefaultCPUAllocator: not enough memory: you tried to allocate 4'),
    MemoryError(), np._core._exceptions._ArrayMemoryError((9**9,), np.dtype(float)),
    OSError(errno.ENOMEM, 'Cannot allocate memory'), torch.OutOfMemoryError('CUDA out of memory.')], ids=repr)
def test_a_full_memory_names_the_knob(words, where, knob, error, here, capsys, monkeypatch):
    def full(*a, **how): raise error
    monkeypatch.setattr(where, full)
    refused(words, here, capsys, 'out of memory', knob)


def test_what_torch_really_says():
    with pytest.raises(RuntimeError) as found: torch.empty(2**46)
    assert cli._full(found.value)
    with pytest.raises(RuntimeError) as found: torch.empty(2**62, 2**62)
    assert cli._full(found.value)


def test_other_errors_of_torch_are_not_taken_for_it(here, monkeypatch):
    def broken(*a, **how): raise RuntimeError('mat1 and mat2 shapes cannot be multiplied')
    monkeypatch.setattr('instcomp.experiments.builder.load', broken)
    with pytest.raises(RuntimeError, match='mat1'): cli.main(['eval', 'run'])


# ---- limits, JSON, terminals
def test_limits_hold_for_one_command(here, capsys, monkeypatch):
    seen = []
    def load(*a):
        seen.append((limit('pixels'), limit('depth')))
        raise ValueError('enough')
    monkeypatch.setattr('instcomp.experiments.builder.load', load)
    before = limit('pixels'), limit('depth')
    for words in ['eval run', 'reconstruct a.png -o o.png', 'encode a.png -o c', 'sample run -o o.png']:
        refused(f'{words} --limit pixels=4e8 --limit depth=99', here, capsys, 'enough')
        assert seen.pop() == (400_000_000, 99) and (limit('pixels'), limit('depth')) == before
    for bad in ['pixels', 'pixels=', 'pixels=many', 'colour=3', 'pixels=-1', 'pixels=nan', 'pixels=1e400']:
        for words in ['train image-ipc-tiny --out r', 'decode c.safetensors -o out']:
            refused(f'{words} --limit {bad}', here, capsys, '--limit', bad)
    assert (limit('pixels'), limit('depth')) == before


def test_no_number_that_json_lacks(here, capsys, monkeypatch):
    bad = dict(psnr=float('nan'), more=[float('inf'), dict(x=-float('inf'))], n=1)
    monkeypatch.setattr('instcomp.tasks.image.ImageTask.evaluate', lambda *a, **how: dict(bad))
    code, out, _ = call('eval run --n 1 --json --out out --device cpu', capsys)
    strict = lambda word: pytest.fail(f'{word} is no JSON')
    for text in (out, (here/'out'/'eval.json').read_text()):
        found = json.loads(text, parse_constant=strict)
        assert found['psnr'] is None and found['more'] == [None, dict(x=None)] and found['n'] == 1
    assert code == 0 and json_text((1., None, 'a')) == '[1.0, null, "a"]'


def test_a_line_is_one_line_of_letters(here, capsys):
    "Whatever a file is called: no colours, no moves of the cursor, no second line."
    for name in ['a\nb', 'a\x1b[31mb', 'a\rb', 'a\x07', 'a\u202eb', 'caf\udce9', 'x'*200]:
        err = refused(['reconstruct', f'{name}.png', '-o', 'o.png', '--model', 'run'], here, capsys)
        assert err[:-1].isprintable() and len(err) < 2100


DEEP = '{"a":'*100_000 + '1' + '}'*100_000


@pytest.mark.parametrize('words', [f'train image-ipc-tiny --out r --set train={DEEP}',
                                   'train image-ipc-tiny --out r --set inr.hidden=' + '['*50_000,
                                   'train image-ipc-tiny --out r --set train.lr=' + '9'*50_000])
def test_deep_and_huge_json(words, here, capsys):
    assert len(refused(words, here, capsys)) < 1000


# ---- signals
def process(words, here):
    "The command as a process of its own that waits in the middle of its work, with SIGINT as in a terminal."
    code = f'''import signal, sys, time
import instcomp.tasks.image as image
def wait(path):
    print('working', flush=True)
    time.sleep(60)
image.read_image = wait
signal.signal(signal.SIGINT, signal.default_int_handler)
from instcomp.cli import main
sys.exit(main({words.split()}))'''
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    both = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen([sys.executable, '-c', code], cwd=here, env=env, text=True, **both)


@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_encode(number, code, here):
    before = files(here)
    with process(f'encode a.png -o c.safetensors {MODEL}', here) as done:
        assert done.stdout.readline() == 'working\n'
        done.send_signal(number)
        _, err = done.communicate()
    assert done.returncode == code and err.count('\n') == 1 and 'encode stopped, nothing is written' in err
    assert files(here) == before


def test_main_gives_the_signals_back(here, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert call('reconstruct none.png -o o.png', capsys)[0] == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_training_says_of_its_end(here, capsys, monkeypatch):
    for number, code in [(None, 130), (signal.SIGTERM, 143)]:
        error = KeyboardInterrupt('step 3 saved: resume')
        if number: error.code = 128 + number
        def stopped(*a, **how): raise error
        monkeypatch.setattr('instcomp.experiments.run.train_preset', stopped)
        assert call('train image-ipc-tiny --out r', capsys) == (code, '', 'instcomp: step 3 saved: resume\n')


# ---- 200 wrong commands
def parameters():
    "(words of the command, its parameters) of all commands, as typer knows them."
    def below(group, words):
        for name, command in group.commands.items():
            if hasattr(command, 'commands'): yield from below(command, [*words, name])
            else: yield [*words, name], command.params
    return list(below(typer.main.get_command(cli.app), []))


GOOD = dict(preset='image-ipc-tiny', run='run', files='a.png', codes='a.png', file='a.png', out='out/new',
            name='image-ipc-tiny', model='run', device='cpu', n='2', seed='1', steps='1', refine='1',
            scale='2', size='8x8', quality='50', precision='fp32', workers='1', change='train.lr=0.1',
            limit='pixels=9', data='photos', repo='me/name', license='cc0-1.0', folder='run')
STRANGE = ['', ' ', '\0', '-1', '1.5', 'nan', 'inf', '1e400', '9'*5000, 'ö\n', '/dev/null', '/nowhere/x',
           'a.png/x', '..', '[', '{"a":'*9999, '=', 'x=', 'run', '0x0', '0', '-', '--', 'cuda:99', 'tpu']


def say(param, value):
    "A parameter as words."
    if param.param_type_name == 'argument': return [value]
    return [param.opts[-1]] + ([] if param.is_flag else [value])


def wrong(number):
    "So many wrong commands: each has a wrong value, an option too many, one unknown, or something missing."
    rng = np.random.default_rng(0)
    pick = lambda some: some[rng.integers(len(some))]
    known, made = parameters(), []
    while len(made) < number:
        words, params = pick(known)
        args = [p for p in params if p.param_type_name == 'argument']
        options = [p for p in params if p.param_type_name == 'option' and p.name != 'help']
        given = {p.name: say(p, GOOD[p.name]) for p in [*args, *(o for o in options if o.required)]}
        if options and rng.random() < .5:
            more = pick(options)
            given[more.name] = say(more, GOOD.get(more.name, ''))
        what = rng.integers(4)
        if what == 0: given['extra'] = [pick(['--frobnicate', '-q', '--out', '--steps', '--no-resume', 'x'])]
        elif what == 1 and args: given.pop(pick(args).name)
        elif valued := args + [p for p in options if not p.is_flag]:
            one = pick(valued)
            given[one.name] = say(one, pick(STRANGE))
        made.append([*words, *(word for some in given.values() for word in some)])
    return made


def test_wrong_commands(here, capsys, monkeypatch):
    """Each is refused by exit code 2 and one line, and leaves nothing.

    What would work (a strange value may be a right one) is not counted: the work itself is replaced by a
    refusal, so 200 that never come so far remain.
    """
    class Worked(Exception): pass
    def work(*a, **how): raise Worked
    works = ['experiments.run.train', 'experiments.builder.load', 'experiments.hub.push',
             'course.copy_course']
    for place in [*works, 'data.datasets.download']:
        monkeypatch.setattr(f'instcomp.{place}', work)
    monkeypatch.setenv('INSTCOMP_DATA', str(here/'sets'))
    (here/'none').mkdir()
    count, before = 0, files(here)
    for words in wrong(450):
        try: code, out, err = call(words, capsys)
        except Worked:
            capsys.readouterr()
            continue
        if code == 0: continue                                   # presets, data list: nothing to do wrong
        assert code == 2 and out == '' and err.count('\n') == 1 and err.startswith('instcomp: '), (words, err)
        assert len(err) < 2100 and err[:-1].isprintable() and files(here) == before, words
        count += 1
    assert count >= 200


def test_sounds_are_found_and_left_out_alike(here, capsys):
    (here/'clips').mkdir()
    soundfile.write('clips/a.wav', np.sin(np.arange(4000)/9)*.3, 16000)
    (here/'clips'/'b.wav').write_bytes(b'RIFF')
    code, _, err = call('encode clips -o c.safetensors --model voices-ipc --device cpu', capsys)
    assert code == 0 and '1 of 2' in err and 'b.wav' in err and err.count('\n') == 1


# ---- H3: what a file of codes says of its signals
def relabelled(source, target, **notes):
    "The same codes with other notes of the first signal."
    data = source.read_bytes()
    n, = struct.unpack('<Q', data[:8])
    head = json.loads(data[8:8 + n])
    about = json.loads(head['__metadata__']['0'])
    head['__metadata__']['0'] = json.dumps({k: v for k, v in (about | notes).items() if v is not None})
    text = json.dumps(head).encode()
    target.write_bytes(struct.pack('<Q', len(text)) + text + data[8 + n:])


@pytest.mark.parametrize('notes, said', [
    (dict(height=None), 'height=null'), (dict(height='20'), 'height=20'), (dict(width=24.), 'width=24.0'),
    (dict(height={'a': 1}), 'height={'), (dict(height=10**30), 'height='), (dict(height=8000), 'size='),
    (dict(size=[24, 20]), 'size='), (dict(size=None), 'size=null'), (dict(size=[20, -24]), 'size='),
    (dict(step=None), 'step=null'), (dict(step=1e-30), 'step='), (dict(step='a\nb'), 'step='),
    (dict(file='a\nb.png', width=None), 'width=null'), (dict(file=''), 'file name')])
def test_notes_of_compressed_codes(notes, said, here, capsys):
    assert call('encode a.png -o c.safetensors --model photos-local --device cpu', capsys)[0] == 0
    relabelled(here/'c.safetensors', here/'bad.safetensors', **notes)
    refused('decode bad.safetensors -o out --device cpu', here, capsys, 'bad.safetensors', said)


def test_notes_of_compressed_sounds(here, capsys):
    soundfile.write('a.wav', np.sin(np.arange(4000)/9)*.3, 11025)
    assert call('encode a.wav -o c.safetensors --model speech-local --device cpu', capsys)[0] == 0
    for notes in (dict(samples=None), dict(samples=10**9), dict(size=[9]), dict(rate=1), dict(peak='loud')):
        relabelled(here/'c.safetensors', here/'bad.safetensors', **notes)
        refused('decode bad.safetensors -o out --device cpu', here, capsys, 'bad.safetensors')
    assert call('decode c.safetensors -o out --device cpu', capsys)[0] == 0
    assert soundfile.info('out/a.wav').frames == 4000


def test_a_model_that_is_not_here(here, capsys):
    assert call(f'encode a.png -o c.safetensors {MODEL}', capsys)[0] == 0
    os.rename('run', 'elsewhere')
    refused('decode c.safetensors -o out --device cpu', here, capsys, 'c.safetensors', 'model', '--model')
