"A model and batches that train in a second, and a process to kill: tests/tiny.py OUT [key=value ...]."
import json
import os
import signal
import sys

import torch
from safetensors.torch import load_file, save_file

from instcomp.fields.fourier import log_spaced
from instcomp.fields.inr import INR
from instcomp.models.ginr import GINR
from instcomp.models.hypernetwork import Hypernetwork, patchify
from instcomp.models.ipc import IPC
from instcomp.models.meta import GradientEncoder
from instcomp.tasks.image import query
from instcomp.training.device import rank_of
from instcomp.training.trainer import train


def model(dropout=.1, learned=False):
    "An IPC network for 8 x 8 pictures, always the same; `learned`: gradient steps instead of a transformer."
    torch.manual_seed(0)
    inr = INR(log_spaced(2, 16, 8.), hidden=[16, 16], depth=3, normalize=True, out_bias=.5)
    ipc = IPC(inr, 1, 8)
    if learned: return GINR(inr, ipc, GradientEncoder(ipc.code_shape, 2, .1), query)
    tokens = lambda images: patchify(images - .5, 4)
    return GINR(inr, ipc, Hypernetwork(tokens, 4, 48, ipc.code_shape, 16, 1, 2, 32, dropout, .02), query)


class Batches:
    "Item i is a function of (i, rank); `kill` ends the process there, `nan` spoils that item."
    def __init__(self, n=4, rank=0, kill=None, nan=None):
        self.n, self.rank, self.kill, self.nan = n, rank, kill, nan

    def __getitem__(self, i):
        if i == self.kill: os.kill(os.getpid(), signal.SIGKILL)
        images = torch.rand(self.n, 3, 8, 8, generator=torch.Generator().manual_seed(1000*self.rank + i))
        return images*float('nan') if i == self.nan else images


def config(**changes):
    "Everything that has a state or draws at random is switched on."
    row = dict(steps=24, every=5, lr=3e-3, accumulate=2, schedule='cosine', warmup=4, ema=.9, clip=1.,
               noise='instance', subsample='instance', fraction=.5)
    return dict(format=1, train=row | changes)


def go(out, batches=None, net=None, resume=False, precision='fp32', workers=0, **changes):
    "Train in this process."
    return train(net or model(), config(**changes), batches or Batches(), out, resume=resume, device='cpu',
                 precision=precision, bar=False, workers=workers)


def tensors(out):
    "File name -> tensors of a run's last checkpoint."
    return {path.name: load_file(path) for path in sorted((out/'state').glob('*.safetensors'))}


if __name__ == '__main__':
    out, changes = sys.argv[1], {k: json.loads(v) for k, v in (pair.split('=') for pair in sys.argv[2:])}
    options = {k: changes.pop(k) for k in ('kill', 'nan') if k in changes}
    rank, size = rank_of()
    resume, dropout = changes.pop('resume', False), changes.pop('dropout', .1)
    net = model(dropout, changes.pop('learned', False))
    batches = Batches(rank=rank, **options)
    train(net, config(**changes), batches, out, resume=resume, device='cpu', precision='fp32', bar=False)
    if size > 1: save_file(net.state_dict(), f'{out}/rank{rank}.safetensors')
