"The library's public names as pages: signature, arguments with shapes, docstring, link to the notebook."
import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT/'instcomp'
CELL = re.compile(r'^# %% (?:\.\./)*nbs/([\w/]+)\.ipynb #(\w+)$')      # nbdev's line above each exported cell


@dataclass
class Module:
    "What the text of a module says, without importing it."
    name: str        # dotted
    text: str

    def __post_init__(self):
        self.tree, lines = ast.parse(self.text), self.text.splitlines()
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        self.comments = {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type == tokenize.COMMENT}
        self.cells = {n: found.groups() for n, line in enumerate(lines, 1) if (found := CELL.match(line))}

    @property
    def doc(self): return ast.get_docstring(self.tree) or ''

    @property
    def notebook(self): return next(iter(self.cells.values()))[0]

    def cell(self, node):
        "Notebook and cell that define what stands at a node."
        return self.cells[max(n for n in self.cells if n < node.lineno)]

    def public(self):
        "name -> node, in the order of the text, for what __all__ lists."
        nodes = {name: node for node in self.tree.body for name in defined(node)}
        listed = ast.literal_eval(nodes['__all__'].value)
        return {name: node for name, node in nodes.items() if name in listed}


def defined(node):
    "The names that a statement defines."
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): return [node.name]
    if isinstance(node, ast.ImportFrom): return [alias.asname or alias.name for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
    parts = [part for target in targets if target for part in ast.walk(target)]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def modules(library=LIBRARY):
    "Every exported module, in the order of its name."
    for path in sorted(library.rglob('*.py')):
        if path.stem[0] == '_': continue
        parts = (library.name, *path.relative_to(library).with_suffix('').parts)
        yield Module('.'.join(parts), path.read_text('utf-8'))


def plain(text):
    "Text for reStructuredText: code between backticks stays code, all else means nothing."
    parts = text.split('`')
    if len(parts) % 2 == 0: parts = [text.replace('`', "'")]
    return ''.join(f'``{part}``' if i % 2 and part.strip() == part else re.sub(r'([*_|\\<>])', r'\\\1', part)
                   for i, part in enumerate(parts))


def signature(function, method=False):
    "As it is written, without the comments."
    arguments = ast.unparse(function.args)
    return re.sub(r'^self(, |$)', '', arguments) if method else arguments


def fields(module, function):
    "What the comments beside the arguments say, and the one beside the closing bracket."
    a = function.args
    for arg in [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]:
        said = module.comments.get(arg.lineno)
        if said and arg.lineno > function.lineno: yield f':param {arg.arg}: {plain(said)}'
    closing = function.body[0].lineno - 1
    said = module.comments.get(closing)
    if said and closing > function.lineno: yield f':returns: {plain(said)}'


def block(head, lines, options=()):
    "A directive with its text."
    inside = [*options, '', *lines]
    return [head, *(f'   {line}'.rstrip() for line in inside), '']


def paragraphs(node):
    "A docstring, its lines ready for a page."
    doc = ast.get_docstring(node)
    return [*map(plain, doc.splitlines()), ''] if doc else []


def method(module, node):
    head = f'.. py:method:: {node.name}({signature(node, True)})'
    return block(head, [*paragraphs(node), *fields(module, node)])


def setting(node):
    "A field of a dataclass."
    value = [f':value: {ast.unparse(node.value)}'] if node.value else []
    options = [f':type: {ast.unparse(node.annotation)}', *value]
    return block(f'.. py:attribute:: {node.target.id}', [], options)


def klass(module, node, where):
    "Constructor and what it takes, where it is written, then settings and public methods."
    parts = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    init = parts.get('__init__')
    lines = [*paragraphs(node), *(fields(module, init) if init else ()), '', where, '']
    for part in node.body:
        if isinstance(part, ast.AnnAssign): lines += setting(part)
    for name, part in parts.items():
        if name[0] != '_': lines += method(module, part)
    bases = ', '.join(ast.unparse(base) for base in node.bases)
    head = f'({signature(init, True)})' if init else ''
    return head, [*([f'*Bases:* ``{bases}``', ''] if bases else []), *lines]


def passed_on(name, module):
    "A name that is defined elsewhere."
    return block(f'.. py:data:: {name}', [f'The same as :py:obj:`{module}.{name}`.'])


def entry(module, name, node, back):
    "One name as a directive. `back`: the way to the top folder of the site."
    book, cell = module.cell(node)
    where = f'`Source, in its notebook <{back}{book}.html#cell-{cell}>`__'
    if isinstance(node, ast.FunctionDef):
        lines = [*paragraphs(node), *fields(module, node), '', where]
        return block(f'.. py:function:: {name}({signature(node)})', lines)
    if isinstance(node, ast.ClassDef):
        head, lines = klass(module, node, where)
        return block(f'.. py:class:: {name}{head}', lines)
    if isinstance(node, ast.ImportFrom):                               # passed on from another module
        return passed_on(name, '.'.join([*module.name.split('.')[:-node.level], node.module]))
    value = ast.unparse(node.value)
    return block(f'.. py:data:: {name}', [where], [f':value: {value}'] if len(value) < 80 else [])


def module_page(module):
    "The page of a module, as reStructuredText."
    back = '../'
    head = [module.name, '='*len(module.name), '', plain(module.doc), '',
            f':doc:`The notebook with pictures and checks </{module.notebook}>`.', '',
            f'.. py:module:: {module.name}', f'.. py:currentmodule:: {module.name}', '']
    entries = [entry(module, name, node, back) for name, node in module.public().items()]
    return '\n'.join([*head, *(line for lines in entries for line in lines)])


def face():
    "name -> module, of what `instcomp` itself offers."
    tree = ast.parse((LIBRARY/'__init__.py').read_text('utf-8'))
    call = next(node.value for node in tree.body if 'FACE' in defined(node))
    return {word.arg: f'instcomp.{word.value.value}' for word in call.keywords}


def index_page(known):
    "What the package itself offers, and all modules."
    names = ['.. py:module:: instcomp', '', *(line for pair in face().items() for line in passed_on(*pair))]
    rows = [line for m in known for line in (f'   * - :doc:`{m.name}`', f'     - {plain(m.doc)}')]
    said = ('Every public name, with what it takes and gives; :ref:`all in one index <genindex>`. These can '
            'be had from the package itself, ``from instcomp import load``:')
    head = ['Reference', '=========', '', said, '']
    table = ['', '.. list-table::', '   :widths: 30 70', '', *rows, '', '.. toctree::', '   :hidden:', '']
    return '\n'.join([*head, *names, *table, *(f'   {m.name}' for m in known), ''])


def pages():
    "File name in the folder api -> text."
    known = list(modules())
    return {'index.rst': index_page(known), **{f'{m.name}.rst': module_page(m) for m in known}}
