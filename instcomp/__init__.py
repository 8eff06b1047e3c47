"""Coordinate networks that know their instance: images, sounds and views as functions of their coordinates.

`from instcomp import load, build, presets, grid, psnr, GINR`: each name is imported when it is asked for, so
that `import instcomp` imports no torch. Everything else lives in the rooms: `instcomp.models.ipc` and so on.
"""
from importlib import import_module

__version__ = "0.1.0"
FACE = dict(load='experiments.builder', build='experiments.builder', presets='experiments.catalog',
            grid='fields.coords', psnr='evaluation.metrics', GINR='models.ginr')
__all__ = list(FACE)


def __getattr__(name):
    "The face: names that are looked up in their modules when they are first asked for."
    if name not in FACE: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = getattr(import_module(f'{__name__}.{FACE[name]}'), name)
    return globals()[name]


def __dir__(): return [*globals(), *FACE]
