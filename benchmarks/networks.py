"""Five networks on the same photographs: plain, SIREN, Gaussian features, WIRE, Gaussian activation.

    python benchmarks/networks.py                 the laptop's size, whose figures chapter 05 quotes
    python benchmarks/networks.py FOLDER --full   512 x 512, 2000 steps, width 256, own pictures

Equal steps and about equal parameters; bandwidth and learning rate of each network are the best ones on a
further photograph. Protocol and settings are those of benchmarks/fourier.py; a stopped run goes on where it
was. Writes benchmarks/networks.json and, from the default pictures, benchmarks/claims/networks.json.
"""
import statistics

import torch
from fourier import LAPTOP, PROTOCOL, arguments, measure, origin, pictures, remember, summary, write

from instcomp.fields.coords import grid
from instcomp.fields.fourier import gaussian
from instcomp.fields.inr import INR
from instcomp.fields.siren import gauss, redraw, siren, torch_range, wire

DEFAULTS = LAPTOP | dict(seeds=1, tune=1)
KNOBS = {'plain': [None], 'siren': [22., 15., 30.],                              # omega of the first layer
         'gaussian features': [3.5, 5., 7.],                                     # sigma for side 1
         'wire': ['10 10', '5 5', '10 5'],                                       # omega and s
         'gaussian activation': [.1, .05, .2]}                                   # s of the bell
RATES = [.003, .001, .01]                                                        # the first one for the knobs
DETAIL = ('4 linear layers; 1024 seen pixels a step; Adam, rate falling to 0 along a cosine; plain and '
          'Gaussian features: ReLU, sigmoid output; the others: linear output for colours in [-1, 1]; '
          'WIRE: real part of its wavelet; seconds: of one processor thread, median of the runs')


def network(name, knob, a, seed):                    # widths give about equal numbers of parameters
    h, wide, rng = a.width, round(1.41*a.width), torch.Generator().manual_seed(seed)
    features = lambda: gaussian(2, a.features, knob*a.size/256, rng)
    drawn = lambda act: redraw(INR(hidden=wide, depth=4, act=act), torch_range, torch_range)
    return {'plain': lambda: INR(hidden=wide, depth=4),
            'siren': lambda: siren(2, wide, 4, 3, knob, 30.),
            'gaussian features': lambda: INR(features(), hidden=h, depth=4),
            'wire': lambda: drawn(wire(*map(float, knob.split()))),
            'gaussian activation': lambda: drawn(gauss(knob))}[name]()


def painter(name, knob, a, seed):                    # network, its inputs (H, W, n), inputs -> colours
    torch.manual_seed(seed)
    net = network(name, knob, a, seed).to(a.device)
    x = grid((a.size, a.size), device=a.device)                                             # H W 2, [-1, 1]
    squash = name in ('plain', 'gaussian features')
    return net, x, lambda x: net(x).sigmoid() if squash else (net(x) + 1)/2


def main():
    a = arguments('networks', DEFAULTS)
    settings = {k: getattr(a, k) for k in LAPTOP} | dict(folder=a.folder, device=a.device)
    part = a.out.with_suffix('.json.tmp')
    images = pictures(a)['photo']
    found, sweep, rows = measure('photo', images, KNOBS, RATES, painter, a, remember(part, settings))
    size = {n: sum(p.numel() for p in network(n, k[0], a, 0).parameters()) for n, k in KNOBS.items()}
    cost = {n: statistics.median(r['seconds'] for r in rows if r['name'] == n) for n in KNOBS}
    scores = {f'{n}_parameters': v for n, v in size.items()} | {f'{n}_seconds': v for n, v in cost.items()}
    scores |= {k.removeprefix('photo_'): v for k, v in summary(rows).items()}
    scores |= {f'{n}_{k}': v for n in found for k, v in found[n].items() if v is not None}
    scores = {k.replace(' ', '_'): v for k, v in scores.items()}
    result = dict(protocol=f'{PROTOCOL.format(size=a.size, tune=a.tune)}; {DETAIL}', **origin('networks', a),
                  settings=settings, found=found, scores=scores, sweep=sweep, rows=rows)
    write('networks', a, result, scores)
    part.unlink()


if __name__ == '__main__': main()
