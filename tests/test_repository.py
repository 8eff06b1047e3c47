"What stands around the code: workflows, hooks, forms, and the lines for those without `make`."
import json
import os
import re
import subprocess

import pytest
import yaml
from install_cell import settings
from rooms import ROOT

GITHUB = ROOT/'.github'
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text('utf-8')) for path in GITHUB.glob('workflows/*.yaml')}


def steps(job): return [step for step in job['steps'] if 'uses' in step]


@pytest.mark.parametrize('name', WORKFLOWS)
def test_workflow_asks_for_little_and_takes_torch_without_cuda(name):
    flow = WORKFLOWS[name]
    assert flow['permissions']['contents'] == 'read' and flow['env']['PIP_EXTRA_INDEX_URL'].endswith('/cpu')
    for job in flow['jobs'].values(): assert job['runs-on'] == 'ubuntu-latest' and job['steps']


def test_all_pythons_are_tested():
    for flow, job in [('test', 'locked'), ('test', 'newest'), ('release', 'test')]:
        assert WORKFLOWS[flow]['jobs'][job]['strategy']['matrix']['python'] == settings()['pythons'].split()
    locked = steps(WORKFLOWS['test']['jobs']['locked'])
    python, = (step['with'] for step in locked if 'python' in step['uses'])
    assert python['cache'] == 'pip'
    assert python['cache-dependency-path'].split() == ['settings.ini', 'constraints.txt']


def test_a_tag_builds_tests_publishes_and_attaches():
    jobs = WORKFLOWS['release']['jobs']
    assert WORKFLOWS['release'][True] == {'push': {'tags': ['v*']}}                  # YAML reads `on` as true
    needs = {name: job['needs'] for name, job in jobs.items() if name != 'build'}
    assert needs == dict(test='build', publish='test', attach='test')
    assert jobs['publish']['permissions'] == {'id-token': 'write'}                    # trusted: no password
    assert 'secrets.' not in (GITHUB/'workflows'/'release.yaml').read_text('utf-8')


def test_what_the_weekly_job_makes_is_ignored():
    made = re.search(r'venv (\w+)', (GITHUB/'workflows'/'test.yaml').read_text('utf-8'))[1]
    assert subprocess.run(['git', 'check-ignore', '-q', f'{made}/bin/python'], cwd=ROOT).returncode == 0


def test_hooks_run_what_is_there():
    hooks = yaml.safe_load((ROOT/'.pre-commit-config.yaml').read_text('utf-8'))['repos'][0]['hooks']
    assert {hook['id'] for hook in hooks} >= {'ruff', 'nbdev-clean', 'nbdev-export'}
    assert all(hook['language'] == 'system' for hook in hooks)


def test_forms_and_container():
    for path in GITHUB.glob('ISSUE_TEMPLATE/*.yml'):
        form = yaml.safe_load(path.read_text('utf-8'))
        if path.stem == 'config': continue
        assert form['name'] and form['description']
        assert len({part['id'] for part in form['body']}) == len(form['body']) > 0
    assert (GITHUB/'pull_request_template.md').is_file()
    made = json.loads((ROOT/'.devcontainer'/'devcontainer.json').read_text('utf-8'))
    assert 'make .venv/.installed' in made['postCreateCommand']


def test_lines_for_windows_are_those_of_make():
    "No second copy of the logic that could stray: the Makefile's recipes, with the paths of Windows."
    text = (ROOT/'CONTRIBUTING.md').read_text('utf-8')
    lines = re.search(r'```powershell\n(.*?)```', text, re.S)[1].splitlines()
    said = [line.replace('.venv\\Scripts\\', '.venv/bin/') for line in lines if line.startswith('.venv')]
    alone = {key: value for key, value in os.environ.items() if not key.startswith('MAKE')}
    dry = ['make', '-n', '--no-print-directory', '-o', '.venv/.installed', 'demo', 'lab', 'docs', 'test']
    done = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True, env=alone).stdout
    recipes = [line.removeprefix('OMP_NUM_THREADS=1 ') for line in done.replace('\\\n', '').splitlines()]
    recipes = [re.sub(r'( nbs/\S+\.ipynb)+', ' nbs', re.sub(r'\s+', ' ', line)) for line in recipes]
    install = re.search(r"pip install .*'", (ROOT/'Makefile').read_text('utf-8'))[0]
    assert [line for line in said if 'pip install' in line] == [f'.venv/bin/python -m {install}']
    assert [line for line in said if 'pip install' not in line] == recipes
