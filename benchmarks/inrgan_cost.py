"""What the five INR-GAN generators cost, counted in the modules themselves; a 1024 x 1024 picture in strips.

    python benchmarks/inrgan_cost.py

Writes benchmarks/claims/inrgan_cost.json. Parameters in millions, work in GMACs of one picture (multiply-adds
of matrix products), both on the meta device; peak memory of the whole process while the generator of 1024 x
1024 paints in strips of one coarse row; seconds of a full picture and of a preview, median of 5.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from fourier import HERE, origin

from instcomp.models.inrgan import macs, rung

SIZES = (128, 256, 1024)


def count(number, size, painted=None):                # GMACs of a picture, millions of parameters
    with torch.device('meta'):
        G = rung(number, size)
        work = macs(lambda: G(torch.randn(1, G.dim), painted))
    return work/1e9, sum(p.numel() for p in G.parameters())/1e6


def seconds(f, times=5):
    f()
    spent = []
    for _ in range(times):
        start = time.process_time()
        f()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--device', default='cpu')
    a, found = p.parse_args(), {}
    a.seeds = 1
    for number in range(1, 6):
        for size in SIZES:
            gmacs, params = count(number, size)
            found |= {f'gmacs_{number}_{size}': round(gmacs, 2), f'params_{number}_{size}': round(params, 2)}
    found['preview_mac_fraction'] = round(count(5, 256, 64)[0]/count(5, 256)[0], 4)
    torch.manual_seed(0)
    G = rung(5, 1024).eval()
    z = torch.randn(1, G.dim)
    assert G(z, rows=1).shape == (1, 3, 1024, 1024)
    found['render_1024_peak_gb'] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20, 2)
    full, preview = (seconds(lambda: G(z, size, rows=8)) for size in (1024, 256))
    found |= dict(render_1024_seconds=round(full, 2), preview_1024_seconds=round(preview, 2),
                  preview_time_fraction=round(preview/full, 4))
    claims = {k: dict(value=v, **origin('inrgan_cost', a)) for k, v in found.items()}
    (HERE/'claims'/'inrgan_cost.json').write_text(json.dumps(claims, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(found, indent=1))


if __name__ == '__main__': main()
