"""What every loss of the table keeps to."""

import pytest
import torch

from equivox.errors import InputError
from equivox.losses.catalog import LOSSES, build_loss
from equivox.losses.context import CaseContext


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5)])
def test_one_finite_value_a_sample_and_a_gradient(name, shape) -> None:
    outputs = [
        torch.randn(2, 3, *shape, requires_grad=True),
        torch.randn(2, 3, *(1 for _ in shape), requires_grad=True),
    ]
    label = torch.randint(0, 3, (2, *shape))
    loss = build_loss(name, {}).per_sample(outputs, label, CaseContext(torch.tensor([4, 1]), step=3))
    assert loss.shape == (2,)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert all(output.grad is not None and output.grad.abs().sum() > 0 for output in outputs)


def test_unknown_loss_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"expected one of dice_ce, got 'dice'"):
        build_loss("dice", {})


def test_unknown_option_is_refused() -> None:
    with pytest.raises(InputError, match=r"did you mean 'smooth'"):
        build_loss("dice_ce", {"smoth": 1})
