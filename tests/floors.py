"The one table of floors: a module imports only from floors below its own."
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    ['metrics', 'plot', 'device', 'pictures', 'quality', 'spectra'],
    ['coords', 'fourier', 'sources', 'solids', 'camera'],
    ['inr', 'shapes', 'sounds', 'render'],
    ['fit', 'siren', 'modulate', 'family', 'ipc', 'inside'],
    ['inrgan', 'hyper', 'meta', 'runs', 'codes', 'objects'],
    ['occupancy', 'data', 'train', 'views', 'walk', 'viewrows', 'ablations', 'encoders'],
    ['image', 'nvs', 'audio', 'rows', 'gan'],
    ['tasks'],
    ['presets', 'games'],
    ['learn'],
    ['cli'],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def modules():
    "Exported modules of the library, by name."
    return {path.stem: path for path in sorted((ROOT/'instcomp').glob('*.py')) if path.stem[0] != '_'}


def siblings(path):
    "Modules of the library that the file at `path` imports, wherever in the file it does."
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ('instcomp.' if node.level else '') + (node.module or '')
            names = [f'{module.rstrip(".")}.{alias.name}' for alias in node.names]
        else: continue
        found |= {name.split('.')[1] for name in names if name.startswith('instcomp.')}
    return found & set(modules())
