"""How quickly the page of `instcomp view` answers, in Chromium with software rendering.

    python benchmarks/view.py                 idle cores, please: wheel, drag and keys at 512 x 512

The page of `image-local-tiny` (drawn weights: they cost what trained ones do) with a photograph of 128 x 128
pixels. An answer is the time from the event to the frame that shows it, coarse; `full` the time from the last
event until all of the 512 x 512 pixels are those of the network: with the features of places that were
looked at before, and without. Writes benchmarks/claims/view.json.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from origin import commit

from instcomp.experiments.builder import load
from instcomp.tasks.page import page_html, signal_code

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'tests'/'browser'))
from browsing import Opened, decoded, photo, tiny  # noqa: E402
from chromium import FLAGS, executable  # noqa: E402

CLAIMS = ROOT/'benchmarks'/'claims'/'view.json'
FULL = '''new Promise(done => { const began = performance.now(); ACT;
const wait = () => instcomp.settled ? done(instcomp.settled - began) : setTimeout(wait, 5);
setTimeout(wait, 5); })'''
VIEW = 'instcomp.set({x: 64, y: 64, s: 4})'


def inputs(page, kind, n):
    "n events of a kind, the page at work on the one before; their answers in milliseconds."
    stage = page.tab.locator('#stage')
    box = stage.bounding_box()
    x, y = box['x'] + box['width']/2, box['y'] + box['height']/2
    stage.focus()
    page.tab.mouse.move(x, y)
    page.ask('instcomp.answers.length = 0')
    if kind == 'drag': page.tab.mouse.down()
    for k in range(n):
        if kind == 'wheel': page.tab.mouse.wheel(0, -120 if k % 8 < 4 else 120)
        if kind == 'drag': page.tab.mouse.move(x + 4*(k % 10), y + 3*(k % 7))
        if kind == 'keys': page.tab.keyboard.press('ArrowLeft' if k % 2 else 'ArrowRight')
        page.tab.wait_for_timeout(120)
    if kind == 'drag': page.tab.mouse.up()
    page.settle()
    return page.ask('instcomp.answers')


def measure(browser, folder, name, n):
    "Seconds and milliseconds of one page."
    model = tiny() if name == 'image-local-tiny' else load(name, 'cpu')
    signals = [signal_code(model, photo(128), 'cat')]
    with Opened(browser, page_html(model, signals), folder, 512, 602) as page:
        w, h = page.ask('[instcomp.canvas.clientWidth, instcomp.canvas.clientHeight]')
        page.tab.set_viewport_size(dict(width=512, height=602 + 512 - h))
        page.look(64, 64, 4)
        answers = [v for kind in ('wheel', 'drag', 'keys') for v in inputs(page, kind, n)]
        found = dict(answers=len(answers), slowest_ms=max(answers), median_ms=median(answers))
        found['full_again_s'] = page.ask(FULL.replace('ACT', VIEW))/1e3
        found['full_first_s'] = page.ask(FULL.replace('ACT', f'instcomp.setMix(0), {VIEW}'))/1e3
        page.look(64, 64, 4)
        shown, wanted = page.picture((128, 128), 4), decoded(model, signals, 4)
        found['within_1_255'] = float((abs(shown - wanted).max(-1) <= 1).mean())
        found['canvas'] = page.ask('[instcomp.canvas.width, instcomp.canvas.height]')
        return found


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', default='image-local-tiny', help='or a shipped one, printed and not kept')
    p.add_argument('--n', type=int, default=40, help='events of each kind')
    a = p.parse_args()
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=executable(playwright), args=FLAGS)
        found = measure(browser, Path(folder), a.model, a.n)
        version = browser.version
        browser.close()
    print(found)
    if a.model != 'image-local-tiny' or a.n < 40: return
    said = dict(command='python benchmarks/view.py', seed=0, device=f'cpu, Chromium {version}, SwiftShader',
                threads=torch.get_num_threads(), commit=commit())
    found.pop('canvas')
    claims = {f'view_{key}': dict(value=round(value, 4), **said) for key, value in found.items()}
    CLAIMS.write_text(json.dumps(claims, indent=1) + '\n', 'utf-8')


if __name__ == '__main__': main()
