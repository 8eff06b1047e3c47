"""INR-GAN on offline pictures of cars, chairs and lamps: the ladder of five generators; one longer run.

    python benchmarks/inrgan.py           the ladder on 16 x 16 pixels: five rungs, three seeds, equal steps
    python benchmarks/inrgan.py --tiny    the preset inrgan-tiny, whose samples chapter 08 shows
    python benchmarks/inrgan.py --start   gradient norms of the first 200 steps, each start of the trunk
    python benchmarks/inrgan.py --ablate  rung 4 with other ranks and sigmas of FMM, equal steps

A run that was stopped goes on where it was: every training is a run folder below --runs. Writes
benchmarks/inrgan.json, inrgan_tiny.json, inrgan_start.json or inrgan_ablate.json, their
claims, and sheets of samples.
"""
import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from fourier import HERE, origin
from safetensors.torch import save_file

from instcomp.data.synthetic_views import object_images, on_white
from instcomp.evaluation.generative import features, precision_recall, swd
from instcomp.experiments.gan import gan_preset, override_gan
from instcomp.models.discriminator import GAN, Discriminator, GANBatches, build_gan
from instcomp.models.inrgan import rung as rung_of
from instcomp.models.modulation import FMM
from instcomp.training.checkpoint import load_weights
from instcomp.training.loop import fit
from instcomp.training.trainer import optimizer, train

PICTURES, HELD_OUT = 3072, 512
PROTOCOL = ('cars, chairs and lamps, {size} x {size} pixels, {seen} pictures for training, 512 others held '
            'out; 512 samples of the averaged generator against the held-out ones: sliced Wasserstein '
            'distance x 1000 of 7 x 7 patches, mean of the two finest bands; precision and recall, k = 3, in '
            'features of a fixed random convolutional network')
SINGLE, DOUBLE = [[64, 6]], [[64, 4], [64, 4]]
COMMON = dict(dim=64, hidden=[128, 128, 96], rate=.3)
LADDER = {1: dict(scales=SINGLE, latent=128), 2: dict(scales=SINGLE), 3: dict(scales=SINGLE, fourier=4.),
          4: dict(scales=SINGLE, fourier=4.), 5: dict(scales=DOUBLE, fourier=4.)}
SLOW = .03                                            # a trunk ten times slower, for the plain hypernetworks


def row(rung, seed=0, steps=500, size=16, batch=8, widths=(32, 64, 64), every=500, ema=.99, **changes):
    "One experiment of the ladder."
    train = dict(steps=steps, batch=batch, lr=1e-3, betas=[0., .99], ema=ema, every=every, seed=seed)
    return dict(task='inrgan', data='objects', size=size, loss=dict(gamma=.1, every=16), train=train,
                generator=dict(rung=rung) | COMMON | LADDER[rung] | changes,
                discriminator=dict(widths=list(widths), rate=2.))


def protocol(size): return PROTOCOL.format(size=size, seen=PICTURES - HELD_OUT)


def data(runs, size):                                 # pictures for training, pictures held out
    runs.mkdir(parents=True, exist_ok=True)
    pictures = on_white(object_images(PICTURES, 32, keep=runs/'objects-32.safetensors')['pictures'])
    pictures = F.avg_pool2d(pictures, 32//size)
    return pictures[:-HELD_OUT], pictures[-HELD_OUT:]


@torch.no_grad()
def samples(gan, n, seed=1):                          # pictures in [0, 1]
    z = torch.randn(n, gan.G.dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([gan.G(part) for part in z.split(64)])/2 + .5


def sheet(gan): return (samples(gan, 12).clamp(0, 1)*255).round().to(torch.uint8).contiguous()


def judge(real):                                      # model -> numbers, for `train` and for the last word
    def score(gan):
        fake = samples(gan, len(real))
        fine, coarse = swd(real, fake)
        both = dict(zip(('precision', 'recall'), precision_recall(features(real), features(fake))))
        believed = {f'd_{name}': gan.D(x*2 - 1).mean() for name, x in dict(real=real, fake=fake).items()}
        return dict(swd=(fine + coarse)/2, fine=fine, coarse=coarse) | both | believed
    return score


def learn(config, folder, real, held_out, make=build_gan, score=judge, label=None):
    "Averaged GAN; last numbers; history."
    torch.manual_seed(config['train']['seed'])
    gan, done = make(config), folder/'done.json'
    if not done.exists():
        start = time.process_time()
        draws = GANBatches(real, config['train']['batch'], label, config['train']['seed'])
        train(gan, config, draws, folder, score(held_out), True, 'cpu', 'fp32', bar=False)
        done.write_text(json.dumps(time.process_time() - start))
    history = [json.loads(line) for line in (folder/'metrics.jsonl').read_text().splitlines()]
    return load_weights(gan, folder).eval(), history[-1] | dict(cpu=json.loads(done.read_text())), history


def put(name, a, result, claims):
    (HERE/f'{name}.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    claims = {k: dict(value=v, **origin('inrgan', a)) for k, v in claims.items()}
    (HERE/'claims'/f'{name}.json').write_text(json.dumps(claims, indent=1) + '\n', encoding='utf-8')
    print(json.dumps({k: v['value'] for k, v in claims.items()}, indent=1))


def ladder(a):
    real, held_out = data(a.runs, 16)
    rows, sheets = [], {}
    for seed in range(a.seeds):
        for rung in LADDER:
            config = row(rung, seed, a.steps)
            gan, last, _ = learn(config, a.runs/f'ladder-{rung}-{seed}', real, held_out)
            keys = ('swd', 'fine', 'coarse', 'precision', 'recall', 'cpu')
            params = sum(p.numel() for p in gan.G.parameters())
            rows.append(dict(rung=rung, seed=seed, params=params, **{k: round(last[k], 4) for k in keys}))
            print({k: rows[-1][k] for k in ('rung', 'seed', *keys)}, flush=True)
            rows[-1]['differ'] = round(samples(gan, 256).std(0).mean().item(), 4)
            if seed == 0: sheets[f'rung{rung}'] = sheet(gan)
    claims = {}
    for rung in (2, 3):
        gan, last, _ = learn(row(rung, 0, a.steps, rate=SLOW), a.runs/f'ladder-{rung}-slow', real, held_out)
        claims[f'swd_rung{rung}_slow'] = round(last['swd'], 3)
        sheets[f'rung{rung}_slow'] = sheet(gan)
    for rung in LADDER:
        for key in ('swd', 'precision', 'recall'):
            each = [r[key] for r in rows if r['rung'] == rung]
            claims |= {f'{key}_rung{rung}': round(statistics.mean(each), 3),
                       f'{key}_rung{rung}_std': round(statistics.stdev(each), 3) if len(each) > 1 else 0.}
    claims['cpu_minutes'] = round(sum(r['cpu'] for r in rows)/60, 1)
    save_file(sheets, HERE/'inrgan_ladder.safetensors')
    put('inrgan', a, dict(protocol=protocol(16), **origin('inrgan', a), row=row(5, 0, a.steps), rows=rows,
                          scores=claims), claims)


def tiny(a):
    real, held_out = data(a.runs, 32)
    config = override_gan(gan_preset('inrgan-tiny'), dict(train=dict(steps=a.tiny_steps)))
    gan, last, history = learn(config, a.runs/'tiny', real, held_out)
    claims = {f'tiny_{k}': round(last[k], 3) for k in ('swd', 'fine', 'coarse', 'precision', 'recall')}
    claims |= dict(tiny_cpu_minutes=round(last['cpu']/60, 1), tiny_steps=a.tiny_steps)
    result = dict(protocol=protocol(32), **origin('inrgan', a), row=config, history=history)
    put('inrgan_tiny', a, result, claims)


def norms(rung, gain, seed, real, steps=200):         # gradient norm of the generator at each step
    config = row(rung, seed, steps, **({} if gain is None else dict(gain=gain)))
    torch.manual_seed(seed)
    gan, draws, out = build_gan(config), GANBatches(real, 8, seed=seed), []

    def loss(i): return gan.losses(None, draws[i], torch.Generator().manual_seed(i)).mean()

    def backward(loss):
        loss.backward()
        out.append(sum(p.grad.square().sum() for p in gan.G.parameters()).sqrt().item())
    train_row = dict(optimizer='adam', weight_decay=0.) | config['train']
    for _ in fit(loss, optimizer(gan, train_row), steps, backward=backward): pass
    with torch.no_grad(): flat = samples(gan, 64).std(0).mean().item()       # how much the samples differ
    return dict(norms=[round(v, 4) for v in out], differ=round(flat, 4))


def start(a):
    real, rows = data(a.runs, 16)[0], {}
    for name, rung, gain in [('FMM', 4, None), ('hypernetwork, plain start', 3, .7),
                             ('hypernetwork, weak start', 3, None)]:
        rows[name] = [norms(rung, gain, seed, real) for seed in range(a.seeds)]
        print(name, [max(r['norms']) for r in rows[name]], [r['differ'] for r in rows[name]], flush=True)
    claims = {f'start_{name.replace(", ", "_").replace(" ", "_")}_{what}':
              round(statistics.mean(f(r['norms']) for r in runs), 3)
              for name, runs in rows.items() for what, f in (('median', statistics.median), ('max', max))}
    put('inrgan_start', a, dict(**origin('inrgan', a), names=list(rows), rows=rows), claims)


def factorised(rank, sigma, config):                  # rung 4 with another FMM
    G = rung_of(4, 16, SINGLE, modulate=partial(FMM, rank=rank, sigma=sigma, bias=True), fourier=4., **COMMON)
    return GAN(G, Discriminator(**config['discriminator']), **config['loss'], config=config)


def ablate(a):
    real, held_out = data(a.runs, 16)
    rows = []
    for rank, sigma in [(1, 'sigmoid'), (3, 'sigmoid'), (10, 'sigmoid'), (30, 'sigmoid'), (10, 'half'),
                        (10, 'tanh'), (10, 'plus')]:
        for seed in range(a.seeds):
            folder = a.runs/f'ablate-{rank}-{sigma}-{seed}'
            make = partial(factorised, rank, sigma)
            gan, last, _ = learn(row(4, seed, a.steps), folder, real, held_out, make)
            params = sum(p.numel() for p in gan.G.parameters())
            rows.append(dict(rank=rank, sigma=sigma, seed=seed, params=params, swd=round(last['swd'], 4)))
            print(rows[-1], flush=True)
    claims = {}
    for rank, sigma in dict.fromkeys((r['rank'], r['sigma']) for r in rows):
        each = [r['swd'] for r in rows if (r['rank'], r['sigma']) == (rank, sigma)]
        claims[f'swd_rank{rank}_{sigma}'] = round(statistics.mean(each), 3)
        claims[f'swd_rank{rank}_{sigma}_std'] = round(statistics.stdev(each), 3) if len(each) > 1 else 0.
    result = dict(protocol=protocol(16), **origin('inrgan', a), row=row(4, 0, a.steps), rows=rows)
    put('inrgan_ablate', a, result | dict(scores=claims), claims)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--tiny', action='store_true')
    p.add_argument('--start', action='store_true')
    p.add_argument('--ablate', action='store_true')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--steps', type=int, default=500)
    p.add_argument('--tiny-steps', type=int, default=2500)
    p.add_argument('--runs', type=Path, default=HERE.parent/'runs')
    a = p.parse_args()
    a.device = 'cpu'
    (tiny if a.tiny else start if a.start else ablate if a.ablate else ladder)(a)


if __name__ == '__main__': main()
