"""Score the local models on photographs and speech that no training saw, beside what one would use instead.

    python benchmarks/local.py PHOTOS SPEECH [--other SPEECH2] [--only reconstruction,zoom,files,...]

PHOTOS: a folder of photographs; ours are the 14 of Debian's packages mate-backgrounds (nature/) and
lomiri-wallpapers-20.04, their long side reduced to 800 pixels, beside scikit-image's chelsea and coffee.
SPEECH: recordings in train/ and test/; SPEECH2: those of another set (ours: the 300 spoken digits of the Free
Spoken Digit Dataset's test half, 8 kHz). The linear codes are fitted to train/.
Writes benchmarks/local.json (every picture) and benchmarks/claims/local.json (the means).
"""
import argparse
import io
import json
import math
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from origin import add, commit
from PIL import Image

from instcomp import load, psnr
from instcomp.data.audio import SOUND_ENDINGS, read_sound, resampled
from instcomp.data.batches import list_files, photos
from instcomp.data.code_files import save_codes
from instcomp.data.images import read_image, write_image
from instcomp.evaluation.metrics import si_sdr
from instcomp.experiments.builder import find
from instcomp.models.local import PatchPCA, decode_windows, encode_windows, patches, unpatches, whole_cells
from instcomp.tasks.image import bicubic, reconstruct

HERE = Path(__file__).parent


def pictures(folder):
    "name -> (1, 3, H, W), sides cut to multiples of 8."
    found = {p.stem: read_image(p) for p in list_files(folder)}
    found |= dict(zip(('chelsea', 'coffee'), photos('test')))
    return {name: p[None, :, :p.shape[1]//8*8, :p.shape[2]//8*8] for name, p in found.items()}


def mean(rows): return {k: float(np.mean([r[k] for r in rows.values()])) for k in next(iter(rows.values()))}


@torch.no_grad()
def reconstruction(found, model):
    "One pass at 64 and 16 numbers for 8 x 8 pixels, beside PCA (the codec's basis) and bicubic of as many."
    rows, basis = {}, model.codec.basis
    for name, y in found.items():
        rows[name] = {}
        for k in model.codec.ranks:
            z = basis.analyse(model.codec.patches(y))[:, :k]
            linear = model.codec.unpatches(basis.synthesise(z))
            small = bicubic(y, [round(n*(k/192)**.5) for n in y.shape[2:]])
            rows[name] |= {f'local_{k}': psnr(model.samples(model.encode(y, numbers=k)), y).item(),
                           f'pca_{k}': psnr(linear, y).item(),
                           f'bicubic_{k}': psnr(bicubic(small, y.shape[2:]), y).item()}
    m = mean(rows)
    return rows, m | {f'local_over_pca_{k}': m[f'local_{k}'] - m[f'pca_{k}'] for k in model.codec.ranks}


def enlarged(model, full, s):
    "A picture (1, 3, H, W) cut to fit, in 8 bits s times smaller, and that enlarged: bicubic, the model."
    small = [int(n/s) for n in full.shape[2:]]
    y = full[..., :round(small[0]*s), :round(small[1]*s)]
    low = bicubic(y, small).clamp(0, 1).mul(255).round()/255
    made = through(model, low[0], y.shape[2:])[None]
    return y, low, bicubic(low, y.shape[2:]).clamp(0, 1), made.clamp(0, 1)


@torch.no_grad()
def zoom(found, model):
    "Pictures reduced by antialiased bicubic interpolation to 8 bits, then enlarged: bicubic and the model."
    rows = {}
    for name, full in found.items():
        rows[name] = {}
        for s in (1.5, 2, 3, 4, 6, 8):
            y, _, rule, made = enlarged(model, full, s)
            rows[name] |= {f'bicubic_x{s:g}': psnr(rule, y).item(), f'zoom_x{s:g}': psnr(made, y).item()}
    m = mean(rows)
    gain = lambda s: m[f'zoom_x{s:g}'] - m[f'bicubic_x{s:g}']
    return rows, m | {f'zoom_gain_{s:g}': gain(s) for s in (1.5, 2, 3, 4, 6, 8)}


def through(model, image, shape):
    "A picture (3, H, W) through a local model, window by window, at another size."
    out = torch.empty(3, *shape)
    for (i, j), values in decode_windows(model, encode_windows(model, image), shape): out[:, i, j] = values
    return out


def jpeg_sizes(y):
    "For 4:4:4 and 4:2:0: (PSNR, bytes of the whole file) at rising quality, by Pillow with `optimize`."
    bits = Image.fromarray(y[0].movedim(0, -1).mul(255).round().byte().numpy())
    curves = []
    for sampling in (0, 2):
        points = []
        for quality in [*range(4, 96, 4), 97, 99, 100]:
            file = io.BytesIO()
            bits.save(file, 'JPEG', quality=quality, optimize=True, subsampling=sampling)
            back = torch.from_numpy(np.array(Image.open(file).convert('RGB'))).movedim(-1, 0)[None]/255
            points.append((psnr(back, y).item(), len(file.getvalue())))
        curves.append(points)
    return curves


def bytes_at(level, points):
    "Bytes at a PSNR, interpolated in their logarithm; None outside the curve."
    p, n = zip(*sorted(points))
    return math.exp(np.interp(level, p, np.log(n))) if p[0] <= level <= p[-1] else None


def webp_sizes(y):
    "(PSNR, bytes) of WebP at rising quality, for comparison."
    bits, points = Image.fromarray(y[0].movedim(0, -1).mul(255).round().byte().numpy()), []
    for quality in range(5, 101, 8):
        file = io.BytesIO()
        bits.save(file, 'WEBP', quality=quality, method=6)
        back = torch.from_numpy(np.array(Image.open(file).convert('RGB'))).movedim(-1, 0)[None]/255
        points.append((psnr(back, y).item(), len(file.getvalue())))
    return points


@torch.no_grad()
def local_sizes(y, model, folder):
    "(PSNR of the 8-bit picture, bytes of the whole file) at rising quality, and of the coefficients alone."
    learned, linear, home = [], [], find('photos-local')
    for quality in (1, 8, 16, 24, 32, 41, 50, 60, 70, 80, 90, 100):
        code = model.quantise(y, model.codec.step(quality))
        height, width = y.shape[2:]
        notes = dict(file='a.png', height=height, width=width, size=[height, width])
        notes['step'] = float(code['step'][0])
        save_codes(folder/'codes.safetensors', [(model.to_bytes(code), notes)], home)
        n = (folder/'codes.safetensors').stat().st_size
        for points, made in ((learned, model.samples(code)),
                             (linear, model.codec.unpatches(model.codec.basis.synthesise(code['z'])))):
            points.append((psnr(made.clamp(0, 1).mul(255).round()/255, y).item(), n))
    return learned, linear


LEVELS = 33, 36, 40                              # dB


def sizes(rows):
    "Geometric means of the ratios to JPEG's bytes, over the pictures on which every coder reaches the level."
    means = {}
    for level in LEVELS:
        keys = [f'{key}_bytes_over_jpeg_{level}' for key in ('local', 'pca', 'webp')]
        reached = [[row[key] for key in keys] for row in rows.values() if all(row[key] for key in keys)]
        means |= dict(zip(keys, np.exp(np.log(reached).mean(0)).tolist()))
        means[f'pictures_at_{level}'] = len(reached)
    three = [means[f'local_bytes_over_jpeg_{level}'] for level in LEVELS]
    return means | dict(local_bytes_over_jpeg=float(np.mean(three)))


def files(found, model):
    "Bytes of whole files at equal PSNR, beside JPEG's."
    rows, curves = {}, {}
    with TemporaryDirectory() as folder:
        for name, y in found.items():
            jpeg, webp, (learned, linear) = jpeg_sizes(y), webp_sizes(y), local_sizes(y, model, Path(folder))
            curves[name] = dict(jpeg=jpeg, webp=webp, local=learned, pca=linear, pixels=y[0, 0].numel())
            rows[name] = {}
            for level in LEVELS:
                best = min((b for b in (bytes_at(level, c) for c in jpeg) if b), default=None)
                for key, points in dict(local=learned, pca=linear, webp=webp).items():
                    mine = bytes_at(level, points)
                    rows[name][f'{key}_bytes_over_jpeg_{level}'] = mine/best if mine and best else None
    return dict(rows=rows, curves=curves), sizes(rows)


@torch.no_grad()
def speech(folder, model, other=None):
    "SI-SDR of recordings, half and a quarter as many numbers as samples, beside PCA; also of another set."
    fit, p, rate = PatchPCA(1, model.codec.cell, 1), model.codec.cell, model.config['task']['rate']
    def wave(f):
        x = resampled(*read_sound(f), rate)[:, :10*rate]
        x = (x - x.mean())*(.7/x.abs().max())
        return whole_cells(x[None], p)
    fit.fit(torch.cat([patches(wave(f), p)[0].T for f in list_files(folder/'train', SOUND_ENDINGS)]))
    def scored(files):
        rows = {}
        for f in files:
            x = wave(f)
            rows[f.stem] = {}
            for k in model.codec.ranks:
                linear = unpatches(fit.synthesise(fit.analyse(patches(x, p))[:, :k]), p)
                made = model.samples(model.encode(x, numbers=k))
                rows[f.stem] |= {f'speech_{k}': si_sdr(made[0], x[0]).item(),
                                 f'speech_pca_{k}': si_sdr(linear[0], x[0]).item()}
        return rows
    rows = scored(list_files(folder/'test', SOUND_ENDINGS))
    means = mean(rows)
    if other is None: return rows, means
    others = scored(list_files(other, SOUND_ENDINGS))
    means |= {k.replace('speech', 'speech_other'): v for k, v in mean(others).items()}
    return dict(rows, **others), means


def speed(model, zoom, side=(512, 512), large=(3024, 4032)):
    "Seconds for a small and a large picture, imports not counted."
    seconds = {}
    def timed(key, f):
        began = time.perf_counter()
        f()
        seconds[key] = time.perf_counter() - began
    small, big = torch.rand(3, *side), torch.rand(3, *large)
    timed('seconds_512', lambda: reconstruct(model, small))
    timed('seconds_12mp_x1', lambda: reconstruct(model, big))
    timed('seconds_12mp_x2', lambda: reconstruct(zoom, big, 2))
    return {}, seconds


def memory(large=(3024, 4032)):
    "Peak memory (GB) of the command that enlarges a large picture twice, and of its imports alone (Linux)."
    def peak(program, *words):
        # VmHWM and not ru_maxrss: the latter is the parent's where a child is forked from a larger one
        tail = "\nprint('peak', *[l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')])"
        made = subprocess.run([sys.executable, '-c', program + tail, *words], check=True, text=True,
                              stdout=subprocess.PIPE)
        return int(made.stdout.split()[-1])*1024/1e9
    with TemporaryDirectory() as folder:
        write_image(torch.rand(3, *large), f'{folder}/a.png')
        words = ['reconstruct', f'{folder}/a.png', '-o', f'{folder}/b.png', '--scale', '2']
        return {}, dict(peak_gb_imports=peak('import instcomp.tasks.image, instcomp.experiments.builder'),
                        peak_gb=peak('import sys; from instcomp.cli import main; main(sys.argv[1:])', *words))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('photos', type=Path)
    p.add_argument('speech', type=Path, help='with train/ and test/')
    p.add_argument('--other', type=Path, help='a folder of recordings of another set')
    p.add_argument('--only', default='reconstruction,zoom,files,speech,speed,memory')
    args = p.parse_args()
    path, only = HERE/'local.json', args.only.split(',')
    kept = json.loads(path.read_text('utf-8')) if path.exists() else dict(means={})
    found, cpu = pictures(args.photos), partial(load, device='cpu')
    parts = dict(reconstruction=lambda: reconstruction(found, cpu('photos-local')),
                 zoom=lambda: zoom(found, cpu('photos-zoom')),
                 files=lambda: files(found, cpu('photos-local')),
                 speech=lambda: speech(args.speech, cpu('speech-local'), args.other),
                 speed=lambda: speed(cpu('photos-local'), cpu('photos-zoom')), memory=memory)
    for name in only:
        kept[name], means = parts[name]()
        kept['means'] |= means
        about = dict(command=f'python benchmarks/local.py PHOTOS SPEECH --only {name}', seed=0, device='cpu',
                     threads=torch.get_num_threads(), commit=commit())
        add(HERE/'claims'/'local.json', {k: dict(value=round(v, 4)) | about for k, v in means.items()})
        path.write_text(json.dumps(kept, indent=1) + '\n', 'utf-8')
        print(name, json.dumps(means, indent=1))

if __name__ == '__main__': main()
