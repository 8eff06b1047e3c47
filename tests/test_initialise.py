"A model with `initialise` begins from the data: once, before the first step of a new run, never on resume."
import pytest
import tiny
import torch
from safetensors.torch import load_file

from instcomp.training.trainer import train


class Batches(tiny.Batches):
    def __getitem__(self, i):
        if i == getattr(self, 'stop', None): raise KeyboardInterrupt
        return super().__getitem__(i)


def model(calls):
    "The small network; it begins with the mean colour of two batches as its output's bias."
    net = tiny.model(0.)
    def initialise(batches):
        calls.append(net.inr.b[-1].sum().item())
        net.inr.b[-1].copy_(torch.cat([batches[0], batches[1]]).mean((0, 2, 3)))
    net.initialise = initialise
    return net


def go(out, calls, batches, resume=False, **changes):
    config = tiny.config(**dict(steps=4, every=2, accumulate=1, ema=.9, schedule='constant') | changes)
    return train(model(calls), config, batches, out, resume=resume, device='cpu', precision='fp32', bar=False)


def same(a, b):
    for name in ('model', 'ema', 'optim'):
        a_, b_ = (load_file(out/'state'/f'{name}.safetensors') for out in (a, b))
        assert all(torch.equal(a_[key], b_[key]) for key in a_ | b_), name


def test_once_and_not_on_resume(tmp_path):
    whole, calls, stopped = [], [], Batches()
    go(tmp_path/'whole', whole, Batches())
    stopped.stop = 3
    with pytest.raises(KeyboardInterrupt): go(tmp_path/'run', calls, stopped)
    go(tmp_path/'run', calls, Batches(), resume=True)
    assert len(whole) == len(calls) == 1
    same(tmp_path/'whole', tmp_path/'run')


def test_a_run_without_a_checkpoint_begins_again(tmp_path):
    calls, stopped = [], Batches()
    stopped.stop = 2                                         # the two batches of the start are 0 and 1
    with pytest.raises(KeyboardInterrupt): go(tmp_path/'run', calls, stopped, every=4)
    go(tmp_path/'run', calls, Batches(), resume=True, every=4)
    go(tmp_path/'whole', [], Batches(), every=4)
    assert len(calls) == 2
    same(tmp_path/'whole', tmp_path/'run')


def test_the_average_begins_there_too(tmp_path):
    go(tmp_path/'run', [], Batches(), steps=1, lr=1e-9)
    start = torch.cat([tiny.Batches()[0], tiny.Batches()[1]]).mean((0, 2, 3))
    ema = load_file(tmp_path/'run'/'model.safetensors')
    bias = next(v for k, v in ema.items() if k.startswith('inr.b.') and v.shape == (3,))
    assert torch.allclose(bias, start, atol=1e-5)
