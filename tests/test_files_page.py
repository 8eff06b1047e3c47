"The page `nbs/files.ipynb` names commands that exist, with options that exist, in code and in prose."
import json
import re
import shlex

import pytest
import typer
from rooms import notebooks

from instcomp import cli

RUN = re.compile(r"shell\('(instcomp [^']+)'(, code=2)?\)")
NAMED = re.compile(r'`(instcomp [^`]+)`')
WANTED = {'reconstruct', 'encode', 'decode', 'view', 'fit', 'train', 'eval', 'search'}


def cells(name, kind):
    book = json.loads(notebooks()[name].read_text('utf-8'))
    return [''.join(cell['source']) for cell in book['cells'] if cell['cell_type'] == kind]


def parsed(line):
    "The names of the command and its sub-command, its words read as the command would, nothing run."
    command, words = typer.main.get_command(cli.app), shlex.split(line)[1:]
    names, context = [], command.make_context('instcomp', list(words), resilient_parsing=False)
    while hasattr(command, 'commands'):
        names.append(words[0])
        command = command.commands[words[0]]
        words = words[1:]
        context = command.make_context(names[-1], list(words), parent=context)
    return names


COMMANDS = [found[0] for text in cells('files', 'code') for found in RUN.findall(text)]
SAID = sorted({line for text in cells('files', 'markdown') for line in NAMED.findall(text)
               if 'COMMAND' not in line and len(line.split()) > 2})


@pytest.mark.parametrize('line', [*COMMANDS, *SAID])
def test_command_is_one(line): assert parsed(line)[0] in WANTED | {'version'}


def test_every_kind_of_command_is_shown():
    assert {line.split()[1] for line in COMMANDS} >= WANTED
    assert len(COMMANDS) == sum(text.count("shell('") for text in cells('files', 'code')), 'one is not read'


WRONG = ['instcomp reconstrct a.png', 'instcomp fit a.png --stepps 3', 'instcomp eval']


@pytest.mark.parametrize('line', WRONG)
def test_a_wrong_command_is_noticed(line):
    with pytest.raises(Exception, match=r'No such|Missing|KeyError|reconstrct'): parsed(line)
