"The page of `instcomp view`: what it shows is what Python decodes; every input moves it; it asks nobody."
import numpy as np
import pytest
import torch
from browsing import Opened, decoded, photo, tiny

from instcomp.data.speech import voice
from instcomp.experiments.builder import load
from instcomp.tasks.page import page_html, signal_code

VIEW = '[instcomp.view.x, instcomp.view.y, instcomp.view.s]'


def close(shown, wanted): return (np.abs(shown - wanted).max(-1) <= 1).mean()


def drive(page):
    "Wheel, drag and keys, each with what it must change: (x, y, s)."
    stage = page.tab.locator('#stage')
    box = stage.bounding_box()
    middle = box['x'] + box['width']/2, box['y'] + box['height']/2
    begin = page.ask(VIEW)
    page.tab.mouse.move(*middle)
    page.tab.mouse.wheel(0, -400)
    page.tab.wait_for_timeout(100)
    wheel = page.ask(VIEW)
    assert wheel[2] > begin[2]*1.2 and wheel[:2] == pytest.approx(begin[:2], abs=.5)
    page.tab.mouse.down()
    page.tab.mouse.move(middle[0] + 40, middle[1] + 20, steps=4)
    page.tab.mouse.up()
    drag = page.ask(VIEW)
    moved = [(a - b)*drag[2] for a, b in zip(drag[:2], wheel[:2])]
    assert moved == pytest.approx([-40, -20], abs=2)
    stage.focus()
    for key, changed in [('ArrowRight', lambda a, b: b[0] > a[0]), ('-', lambda a, b: b[2] < a[2]),
                         ('0', lambda a, b: b[:2] == [24, 24]), ('1', lambda a, b: b[2] == 1)]:
        before = page.ask(VIEW)
        page.tab.keyboard.press(key)
        assert changed(before, page.ask(VIEW)), key


@pytest.mark.smoke
def test_the_page_shows_what_python_decodes_and_asks_nobody(browser, tmp_path):
    model = tiny()
    signals = [signal_code(model, photo(48), 'cat')]
    with Opened(browser, page_html(model, signals), tmp_path, 260, 360) as page:
        page.look(24, 24, 4)
        assert close(page.picture((48, 48), 4), decoded(model, signals, 4)) >= .99
        drive(page)
        page.settle()
        assert page.requests == [page.tab.url] and page.errors == []


@pytest.mark.slow
@pytest.mark.parametrize('name', ['photos-zoom', 'photos-local', 'photos-ipc', 'image-cavia'])
def test_shipped_models_alone_and_mixed(browser, tmp_path, name):
    model = load(name, 'cpu')
    signals = [signal_code(model, photo(80, at), f'cat{at}') for at in ((60, 100), (150, 150))]
    with Opened(browser, page_html(model, signals), tmp_path, 300, 480) as page:
        for scale, mix in [(3, 0), (1, 0), (2, .5)]:
            page.ask(f'instcomp.setMix({mix})')
            page.look(40, 40, scale)
            wanted = decoded(model, signals, scale, mix)
            assert close(page.picture((80, 80), scale), wanted) >= .99, (scale, mix)
        page.look(40, 40, .5)                            # tasks.image reduces tiles by another filter: close
        least = .99 if hasattr(model, 'codec') else .9
        assert close(page.picture((80, 80), .5), decoded(model, signals, .5, .5)) >= least
        assert page.errors == [] and len(page.requests) == 1


@pytest.mark.slow
def test_a_picture_of_several_tiles_has_no_seams(browser, tmp_path):
    model = tiny()
    signals = [signal_code(model, photo(260, (20, 60)), 'cat')]
    with Opened(browser, page_html(model, signals), tmp_path, 560, 680) as page:
        page.look(130, 130, 2)
        assert close(page.picture((260, 260), 2), decoded(model, signals, 2)) >= .99
        x, y, _ = page.ask(VIEW)
        page.look(128, 128, 1e5)                         # a millionth of a sample a pixel: finite, not torn
        assert len(np.unique(page.pixels().reshape(-1, 3), axis=0)) < 40


@pytest.mark.slow
def test_interpolation_beside_it(browser, tmp_path):
    model = tiny()
    photo_ = photo(60)
    signals = [signal_code(model, photo_, 'cat')]
    with Opened(browser, page_html(model, signals), tmp_path, 300, 400) as page:
        for k, mode in [(1, 'nearest-exact'), (2, 'bicubic')]:
            page.ask(f'(instcomp.setCompare({k}), instcomp.divide(.5))')
            page.look(30, 30, 4)
            shown = page.picture((60, 60), 4)
            ruler = torch.nn.functional.interpolate(photo_[None], scale_factor=4, mode=mode)[0].clamp(0, 1)
            ruler = ruler.mul(255).round().movedim(0, -1).numpy().astype(int)
            assert close(shown[:, 122:], ruler[:, 122:]) >= .99
            assert close(shown[:, :118], decoded(model, signals, 4)[:, :118]) >= .99


@pytest.mark.slow
def test_a_lost_context_comes_back(browser, tmp_path):
    model = tiny()
    signals = [signal_code(model, photo(48), 'cat')]
    with Opened(browser, page_html(model, signals), tmp_path, 260, 360) as page:
        page.look(24, 24, 4)
        before = page.pixels()
        page.ask('window.lose = instcomp.engine.gl.getExtension("WEBGL_lose_context"); lose.loseContext()')
        page.tab.wait_for_timeout(200)
        assert page.ask('instcomp.lost') and page.tab.locator('#message').is_visible()
        page.ask('instcomp.settled = false; lose.restoreContext()')
        page.settle()
        assert (page.pixels() == before).all() and not page.ask('instcomp.lost')


@pytest.mark.slow
def test_a_phone(browser, tmp_path):
    "Two fingers zoom about what is between them, one moves, every button is large enough to hit."
    model = tiny()
    signals = [signal_code(model, photo(48, at), f'a cat of a long name {at}.jpg')
               for at in ((60, 100), (150, 150))]
    how = dict(device_scale_factor=2, has_touch=True, is_mobile=True)
    with Opened(browser, page_html(model, signals), tmp_path, 390, 760, **how) as page:
        assert page.ask('document.documentElement.scrollWidth <= innerWidth')
        for button in page.tab.locator('nav button:visible, nav select:visible').all():
            box = button.bounding_box()
            assert min(box['width'], box['height']) >= 36 and box['x'] + box['width'] <= 390
        fingers = page.context.new_cdp_session(page.tab)
        touch = lambda kind, *at: fingers.send('Input.dispatchTouchEvent', dict(
            type=kind, touchPoints=[dict(x=x, y=y, id=k) for k, (x, y) in enumerate(at)]))
        before = page.ask(VIEW)
        touch('touchStart', (150, 300), (250, 300))
        for d in range(10, 51, 10): touch('touchMove', (150 - d, 300), (250 + d, 300))
        touch('touchEnd')
        page.tab.wait_for_timeout(200)
        assert page.ask(VIEW)[2] == pytest.approx(2*before[2], rel=.1)
        moved = page.ask(VIEW)
        touch('touchStart', (200, 300))
        for d in range(10, 61, 10): touch('touchMove', (200 - d, 300))
        touch('touchEnd')
        page.tab.wait_for_timeout(200)
        assert page.ask(VIEW)[0] > moved[0]


@pytest.mark.slow
def test_a_sound_is_the_one_that_python_decodes(browser, tmp_path):
    model = load('speech-local', 'cpu')
    signals = [signal_code(model, (voice(k, seconds=.6)[None], 16_000), f'speaker {k}') for k in (4, 9)]
    with Opened(browser, page_html(model, signals), tmp_path, 700, 420) as page:
        for mix in (0, .5):
            page.ask(f'instcomp.setMix({mix})')
            page.settle()
            wave = np.array(page.ask('[...instcomp.model.wave]'))
            code = signals[0]['code']
            z = code['z'] + mix*(signals[1]['code']['z'] - code['z'])
            notes = [{k: (1 - mix)*s['notes'][k] + 0. for k in ('mean', 'peak')} for s in signals[:1]]
            peak = notes[0]['peak'] + mix*signals[1]['notes']['peak']
            mean = notes[0]['mean'] + mix*signals[1]['notes']['mean']
            with torch.no_grad(): wanted = model.samples(dict(code, z=z))[0, 0].numpy()*peak/.7 + mean
            assert np.abs(wave - wanted).max() < 2e-3
        before = page.ask('instcomp.view.s')
        page.tab.mouse.move(300, 200)
        page.tab.mouse.wheel(0, -500)
        page.tab.wait_for_timeout(100)
        assert page.ask('instcomp.view.s') > before
        page.tab.locator('#stage').focus()
        page.tab.keyboard.press(' ')
        assert page.ask('instcomp.playing && instcomp.playing.node.buffer.sampleRate') == 16_000
        assert page.errors == [] and len(page.requests) == 1
