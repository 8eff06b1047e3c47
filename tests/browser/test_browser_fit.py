"The page of a fit: its network's pixels and samples are Python's; a solid's pictures turn; it asks nobody."
import numpy as np
import pytest
import torch
from browsing import Opened
from test_browser_page import close

from instcomp.experiments.builder import build
from instcomp.experiments.catalog import row
from instcomp.models.single import no_code
from instcomp.tasks.page import fit_html, turn_html
from instcomp.tasks.registry import task_of

SHAPE = 30, 50                                           # rows, columns
pytestmark = pytest.mark.slow


def one_of(preset, facts, **change):
    "A small fit with drawn weights, as lively as a trained one."
    torch.manual_seed(0)
    config = row(preset)
    model = build(config | dict(task=dict(name=config['task']['name'], **facts),
                                inr=config['inr'] | dict(hidden=48)) | change, 'cpu')
    last = model.inr.W[-1]
    torch.nn.init.normal_(last, std=.3/len(last)**.5)
    for b in model.inr.b[:-1]: torch.nn.init.normal_(b, std=.05)
    model.eval().requires_grad_(False)
    places = torch.rand(2000, task_of(model.config).point)*2 - 1
    last *= .2/model.decode(no_code(), places)[0].std(0).mean()          # as much contrast as a photograph
    return model


def shown(model, scale):
    picture = task_of(model.config).shown(model, tuple(round(n*scale) for n in SHAPE))
    return picture.clamp(0, 1).mul(255).round().movedim(0, -1).numpy().astype(int)


@pytest.mark.parametrize('preset, change', [
    ('fit-picture', {}), ('fit-picture-fourier', {}),
    ('fit-picture-fourier', dict(encoding=dict(name='nerf', L=4, include_input=True)))])
def test_a_fitted_picture(browser, tmp_path, preset, change):
    model = one_of(preset, dict(height=SHAPE[0], width=SHAPE[1]), **change)
    assert shown(model, 1).std() > 10                    # there is something to see
    with Opened(browser, fit_html(model, 'mine'), tmp_path, 420, 340) as page:
        for scale in 4, 1:
            page.look(SHAPE[1]/2, SHAPE[0]/2, scale)
            assert close(page.picture(SHAPE, scale), shown(model, scale)) >= .99, scale
        page.look(.2, .1, 300)                           # a corner, three hundred times as large
        found, step = page.pixels(), 1/300
        h, w = found.shape[:2]
        y = ((torch.arange(h).double() + .5 - h/2)*step + .1 + h % 2*.5*step)
        x = ((torch.arange(w).double() + .5 - w/2)*step + .2 + w % 2*.5*step)
        at = torch.cartesian_prod(y[y > 0]/SHAPE[0], x[x > 0]/SHAPE[1])*2 - 1
        wanted = model.double().decode(no_code().double(), at)[0].clamp(0, 1).mul(255).round()
        wanted = wanted.view(int((y > 0).sum()), int((x > 0).sum()), 3).numpy()
        assert close(found[(y <= 0).sum():, (x <= 0).sum():], wanted) >= .99
        assert page.tab.locator('nav [data-do=code]').is_hidden()
        page.tab.locator('#stage').focus()
        for key, left in ('0', [SHAPE[1]/2, SHAPE[0]/2]), ('k', None), ('c', None):
            page.tab.keyboard.press(key)
            if left: assert page.ask('[instcomp.view.x, instcomp.view.y]') == left
        assert page.tab.locator('#code').is_hidden() and page.ask('instcomp.compare') == 1
        page.settle()
        assert page.requests == [page.tab.url] and page.errors == []


def test_a_fitted_sound_between_its_samples_too(browser, tmp_path):
    facts = dict(samples=3000, rate=8000, mean=.01, peak=.4)
    model = one_of('fit-sound', facts)
    task, exact = task_of(model.config), model.double()
    def at(places):
        return (exact.decode(no_code().double(), places[:, None])[0, :, 0]/task.gain() + .01).numpy()
    own = 2*(torch.arange(3000).double() + .5 - 1500)/8000
    wanted = at(own)
    with Opened(browser, fit_html(model, 'mine'), tmp_path, 500, 360) as page:
        wave = np.array(page.ask('[...instcomp.model.wave]'))
        assert wanted.std() > .01 and np.abs(wave - wanted).max() < 2e-4       # float32; Python's is 4e-5 off
        page.ask('instcomp.set({x: 2900, s: 20})')
        page.settle()
        fine = np.array(page.ask('[...instcomp.model.seen.values]'))
        places = 2900 + (torch.arange(len(fine)).double() + .5 - len(fine)/2)/20
        assert np.abs(fine - at(2*(places - 1500)/8000)).max() < 2e-4
        page.tab.locator('#stage').focus()
        page.ask('''void (instcomp.play = function () {       // what is in sight lasts 3 ms: look at once
            Object.getPrototypeOf(this).play.call(this);
            window.heard = this.playing.node.buffer.sampleRate; })''')
        page.tab.keyboard.press(' ')
        assert page.ask('window.heard') == 8000
        assert page.requests == [page.tab.url] and page.errors == []


def test_a_turn_is_dragged(browser, tmp_path):
    frames = torch.linspace(.1, .9, 8).view(8, 1, 1, 1).expand(8, 32, 32, 3)
    with Opened(browser, turn_html(frames, 'ring', 'fit-shape'), tmp_path, 400, 400) as page:
        level = lambda: page.ask('''(() => { const {canvas: c} = instcomp;
            return c.getContext('2d').getImageData(c.width/2, c.height/2, 1, 1).data[0] })()''')
        box = page.tab.locator('#stage').bounding_box()
        x, y = box['x'] + box['width']/2, box['y'] + box['height']/2
        assert page.ask('instcomp.frame') == 0 and abs(level() - 26) <= 2
        page.tab.mouse.move(x, y)
        page.tab.mouse.down()
        page.tab.mouse.move(x - min(box['width'], box['height'])*.42, y, steps=4)
        page.tab.mouse.up()
        page.settle()
        frame = page.ask('instcomp.frame')
        assert frame in (2, 3) and abs(level() - 255*(.1 + .8*frame/7)) <= 2
        page.tab.keyboard.press('0')
        page.tab.keyboard.press('ArrowRight')
        page.settle()
        assert page.ask('instcomp.frame') == 7
        page.tab.locator('#play').click()
        assert page.tab.locator('#play').inner_text() == 'Stop'
        before = page.ask('instcomp.at')
        page.tab.wait_for_timeout(500)
        assert page.ask('instcomp.at') > before
        for name in 'scale', 'moves', 'beside', 'code': assert page.tab.locator(f'#{name}').is_hidden()
        assert page.requests == [page.tab.url] and page.errors == []
