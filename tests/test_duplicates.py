"No function body of five lines or more stands twice."
import ast
from collections import defaultdict

from rooms import ROOT

FOLDERS = ['instcomp', 'tests', 'benchmarks']


def bodies(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if body and body[-1].end_lineno - body[0].lineno >= 4:
            yield '\n'.join(ast.dump(line) for line in body), f'{path.relative_to(ROOT)}:{node.name}'


def test_no_duplicated_bodies():
    places = defaultdict(list)
    for folder in FOLDERS:
        for path in sorted((ROOT/folder).rglob('*.py')):
            for body, place in bodies(path): places[body].append(place)
    assert [where for where in places.values() if len(where) > 1] == []
