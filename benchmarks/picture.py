"""Pictures of photographs that the shipped models never saw, into nbs/images: python benchmarks/picture.py

enlarged.png opens the README: crops reduced to a third, enlarged by bicubic interpolation and by photos-zoom;
the PSNR is that of the whole photograph. unseen.png: crops through photos-ipc.
"""
from pathlib import Path

import torch
from local import enlarged

from instcomp.data.batches import photos
from instcomp.data.datasets import evaluation_images
from instcomp.evaluation.metrics import psnr
from instcomp.evaluation.plot import compare, save, show
from instcomp.experiments.builder import load
from instcomp.fields.coords import grid
from instcomp.tasks.image import nearest

IMAGES = Path(__file__).parent.parent/'nbs/images'
CROPS = {'coffee': (1, 140, 250, 150, 200), 'chelsea': (0, 60, 110, 120, 160)}        # which, top, left, h, w


def crops(s=3):
    model, panels, titles = load('photos-zoom', device='cpu'), [], []
    for which, i, j, h, w in CROPS.values():
        y, low, rule, zoomed = enlarged(model, photos('test')[which][None], s)
        made = {'bicubic': rule, 'photos-zoom': zoomed}
        panels += [p[0, :, i:i + h, j:j + w] for p in (nearest(low, y.shape[2:]), *made.values(), y)]
        scores = [f'{name}, {psnr(p, y).item():.1f} dB' for name, p in made.items()]
        titles += ['given: a third of the size', *scores, 'the original']
    return show(panels, titles, ncols=4, scale=2.5)


def unseen():
    model = load('photos-ipc', device='cpu')
    size = model.config['size']
    images, x = evaluation_images('photos', size, 5, 3), grid((size, size))
    steps = {'predicted': 0, 'refined': 300}
    made = {name: model.decode(model.encode(images, n), x) for name, n in steps.items()}
    return compare(images, {name: values.permute(0, 3, 1, 2) for name, values in made.items()})


@torch.no_grad()
def main():
    save(crops(), IMAGES/'enlarged.png')
    save(unseen(), IMAGES/'unseen.png')


if __name__ == '__main__': main()
