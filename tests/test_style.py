"Short functions, documented names: the limits stand in CONTRIBUTING.md."
import ast
from statistics import median, quantiles

import pytest
from rooms import modules

FUNCTION, CLASS, LINE = 40, 60, 110                  # lines, lines, characters
MEDIAN, P90 = 6, 15                                  # lines below signature and docstring


def definitions(path, kind):
    return [node for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))) if isinstance(node, kind)]


def exported(path):
    "Lines of code as written in the notebook: no comments, nothing nbdev puts in front."
    text = path.read_text(encoding='utf-8')
    front = [node for node in ast.parse(text).body[:2] if isinstance(node, ast.Expr) or
             isinstance(node, ast.Assign) and node.targets[0].id == '__all__']
    lines = text.splitlines()[max((node.end_lineno for node in front), default=0):]
    return [line for line in lines if line.strip() and not line.startswith('#')]


def body_lines(node):
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return body[-1].end_lineno - body[0].lineno + 1


@pytest.mark.parametrize('name', modules())
def test_limits(name):
    path = modules()[name]
    code = exported(path)
    assert max(map(len, code), default=0) <= LINE, f'{name}: a line is too long'
    for kind, limit in [(ast.FunctionDef, FUNCTION), (ast.ClassDef, CLASS)]:
        for node in definitions(path, kind):
            length = node.end_lineno - node.lineno + 1
            assert length <= limit, f'{name}.{node.name}: {length} lines'


def test_most_functions_are_short():
    lengths = [body_lines(node) for path in modules().values() for node in definitions(path, ast.FunctionDef)]
    assert median(lengths) <= MEDIAN
    assert quantiles(lengths, n=10)[-1] <= P90


@pytest.mark.parametrize('name', modules())
def test_public_names_are_documented(name):
    for node in ast.parse(modules()[name].read_text(encoding='utf-8')).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != '_':
            assert ast.get_docstring(node), f'{name}.{node.name} has no docstring'
