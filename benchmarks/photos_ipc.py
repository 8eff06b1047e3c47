"""Train the weights that come with the package: 64 x 64 crops of scikit-image's photographs and of the CC0
photographs of alexeygrigorev/clothing-dataset-small, half of each batch from either.

    python benchmarks/photos_ipc.py CLOTHING_TRAIN_FOLDER --out runs/photos-ipc [--resume]
"""
import argparse
from pathlib import Path

import torch

from instcomp.data.batches import Batches, Crops, list_files, photos
from instcomp.data.datasets import evaluation_images
from instcomp.data.images import read_image
from instcomp.experiments.builder import build
from instcomp.experiments.catalog import row
from instcomp.tasks.image import evaluate
from instcomp.training.trainer import train


class Half:
    "Half of each batch from either of two sources."
    epochs = False

    def __init__(self, a, b): self.a, self.b = a, b

    def __len__(self): return len(self.a) + len(self.b)

    def batch(self, n, size, rng, items=None):
        "`n` crops (n, 3, size, size)."
        return torch.cat([self.a.batch(n//2, size, rng), self.b.batch(n - n//2, size, rng)])

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', type=Path, help='the training half of the clothing photographs')
    p.add_argument('--out', type=Path, default=Path('runs/photos-ipc'))
    p.add_argument('--steps', type=int)
    p.add_argument('--resume', action='store_true')
    p.add_argument('--device')
    args = p.parse_args()
    config = row('photos-ipc')
    if args.steps: config['train']['steps'] = args.steps
    torch.manual_seed(config['train']['seed'])
    model = build(config | dict(preset='photos-ipc'))
    clothes = [read_image(f) for f in list_files(args.folder)]
    source = Half(Crops(photos(), augment=True), Crops(clothes, augment=True))
    t = model.config['train']
    batches = Batches(source, config['size'], t['batch'], t['seed'], steps=t['steps'])
    watched = evaluation_images(Crops(photos('val', 'astronaut')), config['size'], 64, 1)
    score = lambda model: dict(psnr=evaluate(model, watched)['psnr'])
    print(train(model, model.config, batches, args.out, score, args.resume, args.device, config['precision']))

if __name__ == '__main__': main()
