"""Write the tables between the `figures` marks of README.md from benchmarks/claims/*.json.

    python benchmarks/tables.py [--check]
"""
import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = '<!-- figures: written by benchmarks/tables.py -->\n', '<!-- end of figures -->\n'

COLUMNS = ['model', 'numbers a picture', 'mean colour', 'predicted', 'refined, 300 steps',
           'bicubic, as many numbers']
SCORES = [
    ('`image-ipc-tiny`, 32 x 32: `instcomp train image-ipc-tiny`', 'demo_code_numbers', 'demo_mean_colour',
     'demo_psnr',
     'demo_psnr_refined', 'demo_same_numbers'),
    ('`photos-ipc`, 64 x 64, shipped', 'photos_ipc_code_numbers', 'photos_ipc_psnr_mean_colour',
     'photos_ipc_psnr', 'photos_ipc_psnr_refined', 'photos_ipc_psnr_same_numbers'),
]

ZOOM = ['enlarged', *(f'x {n}' for n in ('1.5', '2', '3', '4', '6', '8'))]
ZOOMED = [(label, *(f'{key}_x{n}' for n in ('1.5', '2', '3', '4', '6', '8')))
          for label, key in (('bicubic interpolation', 'bicubic'), ('`photos-zoom`', 'zoom'))]
SETS = ['enlarged, sets of the literature', *(f'{n} x {s}' for n in ('Set5', 'Set14') for s in (2, 3, 4))]
SHARED = [(label, *(f'{n}_{key}_x{s}' for n in ('set5', 'set14') for s in (2, 3, 4))) for label, key in (
    ('bicubic interpolation', 'bicubic'), ('`photos-zoom`', 'zoom'),
    ('LIIF (EDSR-baseline), published by mmagic', 'liif'))]
HUNDRED = ['enlarged, BSD100', *(f'x {s}' for s in (2, 3, 4))]
NATURAL = [(label, *(f'bsd100_{key}_x{s}' for s in (2, 3, 4))) for label, key in (
    ('bicubic interpolation', 'bicubic'), ('`photos-zoom`', 'zoom'))]
CODES = ['kept in one pass', '64 numbers for 8 x 8 pixels', '16 numbers']
KEPT = [(label, f'{key}_64', f'{key}_16') for label, key in (
    ('bicubic, as many numbers', 'bicubic'), ('PCA of 8 x 8 patches', 'pca'), ('`photos-local`', 'local'))]
FILES = ["bytes of the file, JPEG's at the same PSNR = 1", 'at 33 dB', 'at 36 dB', 'at 40 dB']
SIZES = [(label, *(key.format(n) for n in (33, 36, 40))) for label, key in (
    ('WebP', 'webp_bytes_over_jpeg_{}'), ('coefficients alone, our entropy coder', 'pca_bytes_over_jpeg_{}'),
    ('`photos-local`', 'local_bytes_over_jpeg_{}'), ('photographs that all of them reach', 'pictures_at_{}'))]
SPEECH = ['speech never heard, SI-SDR in dB', 'half as many numbers as samples', 'a quarter',
          'spoken digits of another set, half', 'a quarter']
HEARD = [(label, *(f'speech_{key}{k}' for key in (kind, f'other_{kind}') for k in (32, 16)))
         for label, kind in (('PCA of 64 samples', 'pca_'), ('`speech-local`', ''))]

def claims():
    "Every claim, by key."
    found = {}
    for path in sorted((ROOT/'benchmarks'/'claims').glob('*.json')):
        found |= json.loads(path.read_text('utf-8'))
    return found

def shown(key, values):
    "A figure as text, or that there is none."
    if key not in values: return 'not measured'
    value = values[key]['value']
    return value if isinstance(value, str) else f'{value:,}' if isinstance(value, int) else f'{value:.2f}'

def table(columns, rows, values):
    "One markdown table; the first entry of a row is its label, the others are keys of claims."
    lines = [columns, ['---']*len(columns)]
    lines += [[label, *(shown(key, values) for key in keys)] for label, *keys in rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)

def figures():
    "All that stands between the marks."
    values = claims()
    tables = ((ZOOM, ZOOMED), (SETS, SHARED), (HUNDRED, NATURAL), (CODES, KEPT), (FILES, SIZES),
              (SPEECH, HEARD), (COLUMNS, SCORES))
    return BEGIN + '\n' + '\n'.join(table(columns, rows, values) for columns, rows in tables) + '\n' + END

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--check', action='store_true', help='change nothing; exit 1 if README.md is out of date')
    args = p.parse_args()
    path = ROOT/'README.md'
    text = path.read_text('utf-8')
    before, rest = text.split(BEGIN)
    new = before + figures() + rest.split(END)[1]
    if args.check: sys.exit(new != text)
    path.write_text(new, 'utf-8')

if __name__ == '__main__': main()
