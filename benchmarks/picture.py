"The README's first picture, crops of photographs the shipped model never saw: python benchmarks/picture.py"
from pathlib import Path

import torch

from instcomp.data.datasets import evaluation_images
from instcomp.evaluation.plot import compare, save
from instcomp.experiments.builder import load
from instcomp.fields.coords import grid


def main():
    model = load('photos-ipc', device='cpu')
    size = model.config['size']
    crops = evaluation_images('photos', size, 5, 3)
    x = grid((size, size))
    picture = lambda code: model.decode(code, x).permute(0, 3, 1, 2)
    with torch.no_grad():
        steps = {'predicted': 0, 'refined': 300}
        columns = {name: picture(model.encode(crops, n)) for name, n in steps.items()}
    save(compare(crops, columns), Path(__file__).parent.parent/'nbs/images/unseen.png')

if __name__ == '__main__': main()
