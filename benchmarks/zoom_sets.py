"""Score `photos-zoom` on Set5, Set14 and BSD100, and say how far LIIF is ahead where it was scored alike.

    python benchmarks/zoom_sets.py FOLDER

FOLDER holds Set5/, Set14/ and BSD100/, each with image_SRF_2, _3 and _4 of pairs *_HR.png and *_LR.png, as
github.com/jbhuang0604/SelfExSR has them in data/ (no licence: not part of this project). RGB PSNR; as many
pixels as the factor are cut from each border. LIIF: configs/liif/README.md of github.com/open-mmlab/mmagic
(EDSR-baseline encoder, same protocol; pictures cut to multiples of 12, ours to those of the factor).
Writes benchmarks/claims/zoom_sets.json.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from local import through
from origin import add, commit

from instcomp import load, psnr
from instcomp.data.images import read_image
from instcomp.tasks.image import bicubic

HERE = Path(__file__).parent
LIIF = dict(set5={2: 35.7131, 3: 32.3805, 4: 30.2748}, set14={2: 31.5579, 3: 28.4605, 4: 26.8415})


@torch.no_grad()
def scores(folder, s, model):
    "Mean PSNR of bicubic interpolation and of the model over a folder of pairs."
    rows = []
    for path in sorted(folder.glob('*_HR.png')):
        y, low = (read_image(p)[None] for p in (path, path.with_name(path.name.replace('_HR', '_LR'))))
        y = y[..., :low.shape[2]*s, :low.shape[3]*s]
        inside = lambda z: z.clamp(0, 1).mul(255).round()[..., s:-s, s:-s]/255
        made = bicubic(low, y.shape[2:]), through(model, low[0], y.shape[2:])[None]
        rows.append([psnr(inside(z), y[..., s:-s, s:-s]).item() for z in made])
    return len(rows), *np.mean(rows, 0)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', type=Path, help='with Set5/, Set14/ and BSD100/')
    args, found = p.parse_args(), {}
    model = load('photos-zoom', device='cpu')
    for name in ('Set5', 'Set14', 'BSD100'):
        for s in (2, 3, 4):
            n, rule, made = scores(args.folder/name/f'image_SRF_{s}', s, model)
            key, liif = name.lower(), LIIF.get(name.lower(), {}).get(s)
            found |= {f'{key}_bicubic_x{s}': rule, f'{key}_zoom_x{s}': made}
            if liif: found |= {f'{key}_liif_x{s}': liif, f'{key}_liif_ahead_x{s}': liif - made}
            said = f', LIIF {liif:.2f}' if liif else ''
            print(f'{name} x{s}, {n} pictures: bicubic {rule:.2f}, photos-zoom {made:.2f}{said}', flush=True)
    about = dict(command='python benchmarks/zoom_sets.py FOLDER', seed=0, device='cpu',
                 threads=torch.get_num_threads(), commit=commit())
    source = dict(source='published: configs/liif/README.md, github.com/open-mmlab/mmagic')
    add(HERE/'claims'/'zoom_sets.json', {k: dict(value=round(float(v), 4)) | about |
                                         (source if '_liif_x' in k else {}) for k, v in found.items()})

if __name__ == '__main__': main()
