"Every fact comes from settings.ini; the shipped weights ride along as the package instcomp.weights."
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
if (here/'data'/'weights').is_dir(): packages[cfg['lib_name'] + '.weights'] = 'data/weights'

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else '',
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={'console_scripts': cfg['console_scripts'].split('\n')},
    packages=list(packages),
    package_dir=packages,
    package_data={cfg['lib_name'] + '.weights': ['*/*.json', '*/*.safetensors'],
                  cfg['lib_name'] + '.tasks': ['web/*']},
    include_package_data=False,
    zip_safe=False,
    classifiers=[
        'Development Status :: ' + statuses[int(cfg['status'])],
        'Intended Audience :: ' + cfg['audience'],
        'Natural Language :: ' + cfg['language'],
        'Programming Language :: Python :: 3',
    ],
)
