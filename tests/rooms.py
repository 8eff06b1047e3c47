"The one table of rooms: a module imports only from what stands before it, room by room and within its room."
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    '': ['limits', 'files', 'schema', 'seeds', 'course', 'progress'],
    'fields': ['coords', 'inr', 'fourier', 'siren'],
    'geometry': ['camera', 'rendering', 'sdf', 'shapes', 'mesh', 'mesh_files'],
    'evaluation': ['metrics', 'generative', 'probes', 'retrieval', 'plot'],
    'models': ['codes', 'ginr', 'modulation', 'ipc', 'meta', 'attention', 'hypernetwork', 'occupancy',
               'radiance', 'single', 'inrgan', 'discriminator', 'entropy', 'local', 'plain'],
    'data': ['headers', 'images', 'audio', 'speech', 'batches', 'synthetic_views', 'scenes', 'datasets',
             'code_files', 'archives', 'code_folders'],
    'training': ['loop', 'device', 'checkpoint', 'trainer'],
    'tasks': ['base', 'local', 'image', 'audio', 'views', 'single', 'gan', 'registry', 'page'],
    'experiments': ['ablations', 'image', 'audio', 'views', 'local', 'fit', 'catalog', 'gan', 'hub',
                    'builder', 'run', 'corpora'],
    'door': ['cli'],
}
TOP = ('', 'door')                                # what stands before the rooms, and what behind them
TABLE = [name if room in TOP else f'{room}.{name}' for room, names in ROOMS.items() for name in names]
ORDER = {name: place for place, name in enumerate(TABLE)}


def modules(root=ROOT):
    "Exported modules of the library: dotted name below `instcomp` -> path."
    paths = sorted((root/'instcomp').rglob('*.py'))
    named = {'.'.join(path.relative_to(root/'instcomp').with_suffix('').parts): path for path in paths}
    return {name: path for name, path in named.items() if path.stem[0] != '_'}


def notebooks(root=ROOT):
    "Every notebook: path below nbs without its ending -> path."
    paths = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    return {path.relative_to(root/'nbs').with_suffix('').as_posix(): path for path in paths}


def imported(path, root=ROOT):
    "Modules of the library that the file at `path` imports, wherever in the file and however it says so."
    package, found = path.relative_to(root).parent.parts, set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) + 1 - node.level] if node.level else ()
            base = '.'.join([*above, *filter(None, [node.module])])
            found |= {base, *(f'{base}.{alias.name}' for alias in node.names)}
    known = modules(root)
    return {name.removeprefix('instcomp.') for name in found if name.startswith('instcomp.')} & set(known)


def upward(name, root=ROOT):
    "What a module imports although it does not stand before it in the table."
    return sorted(other for other in imported(modules(root)[name], root)
                  if ORDER.get(other, len(TABLE)) >= ORDER[name])
