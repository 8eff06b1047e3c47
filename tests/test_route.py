"The route of a picture, as CONTRIBUTING.md tells it: every hop is made, each down the table of rooms."
import importlib
import re
import sys

import pytest
import torch
from rooms import ORDER, ROOT

from instcomp.cli import main
from instcomp.data.images import write_image

TEXT = (ROOT/'CONTRIBUTING.md').read_text('utf-8')
MOST = dict(train=11, reconstruct=9)


def hops(command):
    "(module, name in it) of each hop of a route."
    part = TEXT.split(f'`instcomp {command} ')[1].split('\n\n')[1]
    names = re.findall(r'^\d+\. `([\w.]+)`', part, re.M)
    owner = lambda name: max((m for m in ORDER if name.startswith(f'{m}.')), key=len)
    return [(owner(name), name.removeprefix(f'{owner(name)}.')) for name in names]


def code_of(module, name):
    "The code object of a function or a method, also behind a decorator."
    thing = importlib.import_module(f'instcomp.{module}')
    for part in name.split('.'): thing = getattr(thing, part)
    while hasattr(thing, '__wrapped__'): thing = thing.__wrapped__
    return thing.__code__


def called(words):
    "Code objects that ran while the command did."
    seen = set()
    def note(frame, event, arg):
        if event == 'call': seen.add(frame.f_code)
    sys.setprofile(note)
    try: assert main(words) == 0
    finally: sys.setprofile(None)
    return seen


@pytest.mark.parametrize('command', MOST)
def test_each_hop_goes_down_the_table(command):
    places = [ORDER[module] for module, _ in hops(command)]
    assert 5 < len(places) <= MOST[command] and places == sorted(places, reverse=True)


def test_a_picture_takes_the_route(tmp_path):
    write_image(torch.rand(3, 40, 40), tmp_path/'in.png')
    run, cpu = str(tmp_path/'run'), ['--device', 'cpu']
    train = ['train', 'image-ipc-tiny', '--steps', '1', '--out', run, '--precision', 'fp32', *cpu]
    words = dict(train=train, reconstruct=['reconstruct', str(tmp_path/'in.png'), '-o', str(tmp_path/'o.png'),
                                           '--model', run, *cpu])
    for command, line in words.items():
        seen = called(line)
        missed = [f'{module}.{name}' for module, name in hops(command) if code_of(module, name) not in seen]
        assert missed == [], f'{command} does not go there'
