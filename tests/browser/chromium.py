"Where a browser is, and how it starts: no network of its own, drawing in software."
import os
import shutil
from pathlib import Path

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
         '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run']


def executable(playwright):
    "Where a browser is: $CHROMIUM, Debian's, or the one that `playwright install` placed."
    own = playwright.chromium.executable_path
    found = [os.environ.get('CHROMIUM'), *map(shutil.which, NAMES), own if Path(own).exists() else None]
    return next(filter(None, found), None)
