"""The paper networks, computed a second time: numpy in float64, from the published description, not our code.

Kim et al., Generalizable Implicit Neural Representations via Instance Pattern Composers (CVPR 2023), and
Chen & Wang, Transformers as Meta-Learners for Implicit Neural Representations (ECCV 2022). Only the names of
the weights are ours.
"""
import copy

import numpy as np
import pytest
import torch
from scipy.special import erf

from instcomp.experiments.builder import build

NETWORKS = {  # side, patch, zero padding, sigma, weight tokens
    'image-ipc-paper-celeba':                    (178, 9, 1, 64, 256),
    'image-ipc-paper-ffhq512':                   (512, 32, 0, 128, 256),
    'image-transinr-rerun-paper-celeba':         (178, 9, 1, 64, 259),
    'image-transinr-original-paper-imagenette':  (178, 9, 1, 1024, 259),
}


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred/np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)*weight + bias


def attention(x, w, name):
    "12 heads of 64, with biases."
    q, k, v = ((x @ w[f'{name}.qkv.weight'].T + w[f'{name}.qkv.bias'])
               .reshape(len(x), 3, 12, 64).transpose(1, 2, 0, 3))                           # 12 T 64
    scores = q @ k.transpose(0, 2, 1)/8
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = scores/scores.sum(-1, keepdims=True) @ v
    return mixed.transpose(1, 0, 2).reshape(len(x), 768) @ w[f'{name}.proj.weight'].T + w[f'{name}.proj.bias']


def block(x, w, name):
    "Pre-LN, GELU, 3072 hidden."
    x = x + attention(layer_norm(x, w[f'{name}.n1.weight'], w[f'{name}.n1.bias']), w, name)
    h = layer_norm(x, w[f'{name}.n2.weight'], w[f'{name}.n2.bias']) @ w[f'{name}.up.weight'].T
    h = h + w[f'{name}.up.bias']
    return x + (h*(1 + erf(h/2**.5))/2) @ w[f'{name}.down.weight'].T + w[f'{name}.down.bias']


def weight_outputs(image, w, patch, padding):
    "Patches + positions, then weight tokens, through six blocks; what the weight tokens become."
    image = np.pad(image, ((0, 0), (padding,)*2, (padding,)*2))
    at = range(0, image.shape[1], patch)
    patches = [image[:, i:i + patch, j:j + patch].ravel() for i in at for j in at]
    tokens = np.stack(patches) @ w['encoder.embed.weight'].T + w['encoder.embed.bias'] + w['encoder.pos']
    x = np.concatenate([tokens, w['encoder.weight_tokens']])
    for depth in range(6): x = block(x, w, f'encoder.blocks.{depth}')
    return x[len(tokens):]


def columns(y, w, name):
    "LayerNorm, then one linear map: each token is a column."
    y = layer_norm(y, w[f'encoder.heads.{name}.norm.weight'], w[f'encoder.heads.{name}.norm.bias'])
    return (y @ w[f'encoder.heads.{name}.map.weight'].T + w[f'encoder.heads.{name}.map.bias']).T  # in, tokens


def instance_weights(y, w):
    "The five matrices of one instance before they are normalised."
    base = [w[f'inr.W.{k}'] for k in range(5)]
    if len(y) == 256: return [base[0], columns(y, w, 'V') @ base[1], *base[2:]]       # second: V U
    for k in range(5):                                                               # all: base times columns
        groups, y = np.split(y, [64 if k < 4 else 3])
        repeat = np.arange(base[k].shape[1]) % len(groups)
        base[k] = base[k]*columns(groups, w, f'layer{k}')[:, repeat]
    return base


def pixels(side, index):
    "Cell centres in [-1, 1], row first."
    return (np.stack(np.divmod(index, side), 1) + .5)/side*2 - 1


def colours(x, weights, w, sigma):
    "Fourier features, unit fan-in, ReLU, + 0.5."
    frequencies = np.pi*np.exp(np.linspace(0, np.log(sigma), 64))
    phases = (x[:, :, None]*frequencies).reshape(len(x), 128)
    h = np.concatenate([np.cos(phases), np.sin(phases)], 1)                                 # N 256
    for k, W in enumerate(weights):
        h = h @ (W/np.sqrt((W**2).sum(0))) + w[f'inr.b.{k}']
        if k < 4: h = np.maximum(h, 0)
    return h + .5


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('name', NETWORKS)
def test_same_function_as_the_papers_network(name, double):
    side, patch, padding, sigma, tokens = NETWORKS[name]
    torch.manual_seed(0)
    model = build(name).eval()
    with torch.no_grad():                                   # no bias stays zero, no gain stays one
        for p in model.parameters():
            if p.requires_grad: p.add_(.05*torch.randn_like(p))
    w = {key: value.numpy() for key, value in model.state_dict().items()}
    assert len(w['encoder.weight_tokens']) == tokens and [w[f'inr.W.{k}'].shape for k in range(5)] == [
        (256, 256)]*4 + [(256, 3)]
    image = torch.rand(1, 3, side, side)
    x = pixels(side, np.random.default_rng(0).choice(side*side, 400, replace=False))
    theirs = colours(x, instance_weights(weight_outputs(image[0].numpy(), w, patch, padding), w), w, sigma)
    with torch.no_grad():
        ours = model(image, torch.tensor(x))[0].numpy()
        single = copy.deepcopy(model).float()(image.float(), torch.tensor(x).float())[0].numpy()
    largest = np.abs(theirs).max()
    assert theirs.std(0).min() > 1e-2*largest               # the picture is not flat
    assert np.abs(ours - theirs).max() < 1e-9*largest
    assert np.abs(single - ours).max() < 1e-3*largest
