"""What every loss of the table keeps to."""

import importlib.util

import pytest
import torch

from equivox.errors import InputError
from equivox.losses.catalog import LOSSES, build_term
from equivox.losses.context import CaseContext


def built(name: str):
    """The name of a loss, which is skipped where its extra has no wheel."""
    missing = name == "betti_matching" and importlib.util.find_spec("topolosses") is None
    reason = "the extra topology has no wheel for this platform"
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=reason))


@pytest.mark.parametrize("name", [built(name) for name in LOSSES])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5)])
def test_one_finite_value_a_sample_and_a_gradient(name, shape) -> None:
    torch.manual_seed(0)
    outputs = [
        torch.randn(2, 3, *shape, requires_grad=True),
        torch.randn(2, 3, *(1 for _ in shape), requires_grad=True),
    ]
    label = torch.randint(0, 3, (2, *shape))
    context = CaseContext(
        torch.tensor([4, 1]),
        step=3,
        group=torch.tensor([1, 0]),
        groups=2,
        skeleton=label,
        teacher=torch.randn(2, 3, *shape),
        features=lambda image: [image, image.mean(2)],
    )
    loss = build_term(name, {}).loss.per_sample(outputs, label, context)
    assert loss.shape == (2,)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    heads = outputs[:1] if LOSSES[name].first_head else outputs
    assert all(output.grad is not None and output.grad.abs().sum() > 0 for output in heads)


@pytest.mark.parametrize("name", [built(name) for name in LOSSES])
@pytest.mark.parametrize("case", ["zero logits", "empty", "full", "one voxel", "many classes", "bfloat16", "batch 1"])
def test_odd_batches_have_finite_losses_and_gradients(name: str, case: str) -> None:
    generator = torch.Generator().manual_seed(2)
    classes, batch = 12 if case == "many classes" else 3, 1 if case == "batch 1" else 2
    logits = torch.randn(batch, classes, 5, 3, 4, generator=generator) * (case != "zero logits")
    label = torch.randint(0, classes, (batch, 5, 3, 4), generator=generator)
    if case in ("empty", "full", "one voxel"):
        label.fill_(int(case == "full"))
        label[:, 2, 1, 3] = int(case != "empty")
    logits = (logits.bfloat16() if case == "bfloat16" else logits).requires_grad_()
    group = torch.arange(batch)
    context = CaseContext(
        torch.arange(batch),
        skeleton=label,
        group=group,
        groups=3,
        spacing_mm=(1.0, 0.5, 3.0),
        teacher=torch.randn(logits.shape, generator=generator),
        features=lambda image: [image, image.mean(2)],
    )
    loss = build_term(name, {}).loss.per_sample([logits], label, context)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_unknown_loss_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"expected one of dice_ce, .*, got 'dice'"):
        build_term("dice", {})


def test_unknown_option_is_refused() -> None:
    with pytest.raises(InputError, match=r"did you mean 'smooth'"):
        build_term("dice_ce", {"smoth": 1})
