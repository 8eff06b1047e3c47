"Models on the Hugging Face Hub, which is a folder here: push, load, the card, what goes wrong in one line."
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import filter_repo_objects, validate_repo_id
from rooms import ROOT

from instcomp import load
from instcomp.cli import main
from instcomp.experiments.builder import build, find, resolve
from instcomp.experiments.catalog import row
from instcomp.experiments.hub import FILES, card, fetched, push
from instcomp.files import json_text

SMALL = dict(size=16, inr=dict(hidden=[16]*4), encoder=dict(dim=16, heads=2, ff=32))


@pytest.fixture(autouse=True)
def _forget(): fetched.cache_clear()


@pytest.fixture
def run(tmp_path):
    "A tiny model of pictures with its score."
    torch.manual_seed(0)
    build(resolve(row('image-ipc-tiny'), SMALL)).save(tmp_path/'run')
    score = dict(psnr=21.25, n=64, protocol='64 crops of /home/me/cats, seed 0', model='/home/me/run')
    (tmp_path/'run/eval.json').write_text(json_text(score))
    return tmp_path/'run'


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    "A hub that is a folder: what is uploaded lies in org/name, what is fetched is copied from there."
    home, asked = tmp_path/'hub', []

    class Api:
        def __init__(self, **about): assert about['library_name'] == 'instcomp'
        def create_repo(self, repo, private=None, exist_ok=False):
            (home/repo).mkdir(parents=True, exist_ok=exist_ok)
        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, home/repo_id, dirs_exist_ok=True)
            return SimpleNamespace(commit_url=f'https://huggingface.co/{repo_id}/commit/1')

    def snapshot_download(repo, revision=None, allow_patterns=None, **about):
        validate_repo_id(repo)
        asked.append((repo, revision))
        at = tmp_path/'cache'/repo
        names = [file.name for file in (home/repo).iterdir()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            at.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home/repo/name, at/name)
        return str(at)

    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
    return SimpleNamespace(home=home, asked=asked)


def test_push_and_load(run, hub_folder, capsys):
    assert main(['push', str(run), 'me/cats', '--license', 'cc0-1.0']) == 0
    assert 'huggingface.co/me/cats' in capsys.readouterr().out
    there = hub_folder.home/'me/cats'
    assert {f.name for f in there.iterdir()} == {'config.json', 'model.safetensors', 'README.md'}
    (there/'optim.pt').write_bytes(b'a pickle')
    model, here = load('hf://me/cats'), load(run)
    assert all(torch.equal(v, here.state_dict()[k]) for k, v in model.state_dict().items())
    assert {f.name for f in find('hf://me/cats').iterdir()} <= set(FILES)     # no pickle, and not the card
    load('hf://me/cats')
    assert hub_folder.asked == [('me/cats', None)]                            # once in a process
    load('hf://me/cats@v1.0')
    assert hub_folder.asked[-1] == ('me/cats', 'v1.0')


def test_the_command_takes_names_of_the_hub(run, hub_folder, tmp_path, capsys):
    push(run, 'me/cats')
    (hub_folder.home/'me/cats/recipe.json').write_text('{}')
    assert main(['eval', 'hf://me/cats', '--n', '2', '--json', '--device', 'cpu']) == 0
    assert '"psnr"' in capsys.readouterr().out


def test_a_card(run):
    made = card(run, 'me/cats', 'cc0-1.0')
    again = ModelCard(made.content).data                     # as the hub reads it
    assert again.license == 'cc0-1.0' and again.library_name == 'instcomp' and 'ipc' in again.tags
    assert again.eval_results[0].metric_value == 21.25 and again.pipeline_tag == 'image-to-image'
    for words in ('PSNR (dB): 21.25 over 64', '64 crops of cats, seed 0', 'scikit-image', 'CC0', "load('hf://me/cats')"):
        assert words in made.content, words
    assert '/home' not in made.content
    (run/'eval.json').unlink()
    unscored = card(run, 'me/cats')
    assert 'none yet' in unscored.content
    assert unscored.data.eval_results is None and unscored.data.license is None


def test_cards_of_shipped_weights():
    for folder in sorted((ROOT/'data/weights').iterdir()):
        if not folder.is_dir(): continue
        made = card(folder, f'me/{folder.name}')
        assert 'licence' in made.content and 'none yet' not in made.content, folder.name


BROKEN = {
    'no weights': lambda run: (run/'model.safetensors').unlink(),
    'not a whole safetensors': lambda run: (run/'model.safetensors').write_bytes(b'cut'),
    'no config.json': lambda run: (run/'config.json').unlink(),
    'eval.json': lambda run: (run/'eval.json').write_text('[1]'),
}


@pytest.mark.parametrize('words', BROKEN)
def test_broken_runs_are_not_published(run, hub_folder, words, capsys):
    BROKEN[words](run)
    assert main(['push', str(run), 'me/cats']) == 2
    said = capsys.readouterr().err
    assert words in said and said.count('\n') == 1
    assert not hub_folder.home.exists()


def test_what_is_no_model_is_refused(hub_folder, capsys):
    (hub_folder.home/'me/pickle').mkdir(parents=True)
    (hub_folder.home/'me/pickle/model.pt').write_bytes(b'a pickle')
    with pytest.raises(ValueError, match='lacks config.json and model.safetensors'): load('hf://me/pickle')
    for name in ('hf://cats', 'hf://me/cats@', 'hf:///me', 'hf://me/cats/model.pt'):
        with pytest.raises(ValueError, match='hf://ORG/NAME'): load(name)
    with pytest.raises(ValueError, match='give ORG/NAME'): push('anywhere', 'cats')


# ---- the real client against a server that refuses, one that is not there, and no network at all

@pytest.fixture
def answers(monkeypatch, tmp_path):
    "A server that gives every question the same answer."
    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(server.status)
            for name, value in server.headers.items(): self.send_header(name, value)
            self.send_header('Content-Length', '2')
            self.end_headers()
            if self.command != 'HEAD': self.wfile.write(b'{}')
        do_GET = do_POST = do_HEAD = answer
        def log_message(self, *words): pass
    server = HTTPServer(('127.0.0.1', 0), Handler)
    server.status, server.headers = 401, {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    point(monkeypatch, f'http://127.0.0.1:{server.server_port}', tmp_path)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def point(monkeypatch, address, tmp_path):
    "Let the client talk to an address, with an empty cache and without a token."
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'): monkeypatch.delenv(name, raising=False)
    for name in ('HF_HUB_CACHE', 'HF_TOKEN_PATH'): monkeypatch.setattr(constants, name, str(tmp_path/name))
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, 'snapshot_download',
                        lambda *a, **k: real(*a, **k, cache_dir=tmp_path/'empty'))


def one_line(capsys, *words):
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1, said
    return said


def test_without_a_token(run, answers, capsys):
    assert 'hf auth login' in one_line(capsys, 'push', run, 'me/cats')
    assert 'hf auth login' in one_line(capsys, 'eval', 'hf://me/cats')


def test_a_model_that_is_not_there(answers, capsys):
    answers.status, answers.headers = 404, {'X-Error-Code': 'RepoNotFound'}
    assert 'no such model on the hub' in one_line(capsys, 'eval', 'hf://me/cats')
    answers.headers = {'X-Error-Code': 'RevisionNotFound'}
    assert 'no such revision' in one_line(capsys, 'eval', 'hf://me/cats@v9')


def test_offline(run, monkeypatch, tmp_path, capsys):
    point(monkeypatch, 'http://127.0.0.1:9', tmp_path)       # nobody listens there
    for words in (['eval', 'hf://me/cats'], ['push', run, 'me/cats']):
        assert 'cannot be reached' in one_line(capsys, *words)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert 'cannot be reached' in one_line(capsys, 'eval', 'hf://me/cats')
