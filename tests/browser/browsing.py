"What the tests of pages share, and the benchmark of their answers: open, wait, read pixels."
import base64
import time

import numpy as np
import torch

from instcomp.experiments.builder import build
from instcomp.models.codes import map_code, split_code
from instcomp.models.local import LocalGINR
from instcomp.tasks.registry import task_of

PIXELS = '''(() => { const p = instcomp.pixels(); let s = '';
for (let i = 0; i < p.length; i += 8192) s += String.fromCharCode(...p.subarray(i, i + 8192));
return btoa(s) })()'''


def tiny(seed=0):
    "`image-local-tiny` with drawn weights where it starts at zero: a page must show what they do."
    torch.manual_seed(seed)
    model = build('image-local-tiny', 'cpu').eval().requires_grad_(False)
    for layer in (model.field.m2, model.field.scale): torch.nn.init.normal_(layer.weight, std=.05)
    return model


def photo(side, corner=(60, 100)):
    "A square of the cat, 8 bits."
    from skimage.data import chelsea
    i, j = corner
    return torch.tensor(chelsea()[i:i + side, j:j + side]/255.).float().movedim(-1, 0)


class Opened:
    "A page in a browser: its requests, its errors, its view."
    def __init__(self, browser, text, folder, width=540, height=640, **context):
        path = folder/'page.html'
        path.write_text(text, 'utf-8')
        self.context = browser.new_context(viewport=dict(width=width, height=height), **context)
        self.tab, self.requests, self.errors = self.context.new_page(), [], []
        self.tab.on('request', lambda request: self.requests.append(request.url))
        self.tab.on('pageerror', lambda error: self.errors.append(str(error)))
        self.tab.on('console', lambda said: said.type == 'error' and self.errors.append(said.text))
        self.tab.goto(path.as_uri())
        self.settle()

    def __enter__(self): return self
    def __exit__(self, *_): self.context.close()
    def ask(self, script): return self.tab.evaluate(script)

    def settle(self, limit=300):
        "Wait until everything is drawn; `TimeoutError` names what the page says."
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.ask('!!(window.instcomp && instcomp.settled)'): return
            if self.errors: break
            self.tab.wait_for_timeout(20)
        raise TimeoutError(f'not drawn; errors: {self.errors}; {self.ask("document.body.innerText")}')

    def look(self, x, y, s):
        "The view whose middle is sample (x, y), at s pixels a sample, its pixels on a grid of the picture."
        w, h = self.ask('[instcomp.canvas.width, instcomp.canvas.height]')
        self.ask(f'instcomp.set({{x: {x + w % 2*.5/s}, y: {y + h % 2*.5/s}, s: {s}}})')
        self.settle()

    def pixels(self):
        "(H, W, 3) of the canvas, 0 to 255."
        w, h = self.ask('[instcomp.canvas.width, instcomp.canvas.height]')
        data = np.frombuffer(base64.b64decode(self.ask(PIXELS)), np.uint8)
        return data.reshape(h, w, 4)[..., :3].astype(int)

    def picture(self, size, s):
        "(h, w, 3): the pixels of a picture that `look` put into the middle."
        all_, (h, w) = self.pixels(), (round(n*s) for n in size)
        i, j = all_.shape[0]//2 - h//2, all_.shape[1]//2 - w//2
        assert i >= 0 and j >= 0, 'the canvas is too small for it'
        return all_[i:i + h, j:j + w]


def decoded(model, signals, scale, mix=0):
    "(h, w, 3): what Python makes of the code, 0 to 255."
    code, *other = (signal['code'] for signal in signals)
    if mix: code = map_code(lambda a, b: a + mix*(b - a) if a.is_floating_point() else a, code, *other)
    parts = [code] if isinstance(model, LocalGINR) else split_code(code)
    with torch.no_grad(): values = task_of(model.config).decode(model, parts, signals[0]['notes'], scale)
    return values.clamp(0, 1).mul(255).round().movedim(0, -1).numpy().astype(int)
