"""Every fact comes from settings.ini. What the course needs rides along inside the package: trained weights,
measured tables, notebooks."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

statuses = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable']
suffix = '_requirements'
extras = {key.removesuffix(suffix): cfg[key].split() for key in cfg if key.endswith(suffix)}
lib = Path(cfg['lib_path'])
rooms = [path.parent.relative_to(here/lib) for path in (here/lib).rglob('__init__.py')]
packages = {'.'.join([cfg['lib_name'], *room.parts]): (lib/room).as_posix() for room in rooms}
# what rides along: package -> (its folder in the checkout, the files that are taken)
along = {
    'weights':   ('data/weights', ['*/*.json', '*/*.safetensors']),
    'measured':  ('benchmarks', ['*.json', '*.safetensors', 'claims/*.json']),
    'notebooks': (cfg['nbs_path'], ['*.ipynb', '*/*.ipynb', 'images/*.png']),
}
along = {f'{cfg["lib_name"]}.{name}': what for name, what in along.items() if (here/what[0]).is_dir()}
packages |= {name: folder for name, (folder, _) in along.items()}


def long_description():
    "The README for an index, where relative links lead nowhere: pictures and pages from the repository."
    text = (here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else ''
    page = f'{cfg["git_url"]}/{{}}/{cfg["branch"]}/'
    text = re.sub(r'(!\[[^\]]*\]\()(?!https?:|#)', lambda found: found[1] + page.format('raw'), text)
    return re.sub(r'((?<!!)\[[^\]]*\]\()(?!https?:|#)', lambda found: found[1] + page.format('blob'), text)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=long_description(),
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    project_urls={
        'Documentation': cfg['doc_host'] + cfg['doc_baseurl'],
        'Source': cfg['git_url'],
        'Issues': cfg['git_url'] + '/issues',
        'Changelog': f'{cfg["git_url"]}/blob/{cfg["branch"]}/CHANGELOG.md',
    },
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={'console_scripts': cfg['console_scripts'].split('\n')},
    packages=list(packages),
    package_dir=packages,
    package_data={cfg['lib_name']: ['py.typed'], cfg['lib_name'] + '.tasks': ['web/*'],
                  **{name: files for name, (_, files) in along.items()}},
    include_package_data=False,
    zip_safe=False,
    classifiers=[
        'Development Status :: ' + statuses[int(cfg['status'])],
        'Intended Audience :: ' + cfg['audience'],
        'Natural Language :: ' + cfg['language'],
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: {version}' for version in cfg['pythons'].split()),
        'Topic :: Multimedia :: Graphics',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
)
