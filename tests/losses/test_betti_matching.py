"""The Betti matching loss: by hand, in a region, and in processes."""

import importlib.util

import pytest
import torch

from equivox import compiled_matching as module
from equivox.errors import InputError
from equivox.losses import betti_matching as own
from equivox.losses.betti_matching import BettiMatchingLoss, BettiMatchingOptions, betti_matching_loss
from equivox.losses.catalog import build_term
from equivox.losses.context import CaseContext

needs_topolosses = pytest.mark.skipif(
    importlib.util.find_spec("topolosses") is None, reason="the extra topology has no wheel for this platform"
)


def loss_of(probability: torch.Tensor, truth: torch.Tensor, **options) -> float:
    """The loss of one image."""
    found = betti_matching_loss(
        probability[None, None], truth[None, None].to(probability), BettiMatchingOptions(**options)
    )
    return float(found.detach())


def ring(gap: float, value: float = 1.0) -> torch.Tensor:
    """A ring of 16 pixels in an image of 7 x 8; one of them has another value."""
    image = torch.zeros(7, 8, dtype=torch.float64)
    image[1:6, 1:6] = value
    image[2:5, 2:5] = 0
    image[3, 1] = gap
    return image


def random_pair(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, dtype=torch.float64, generator=generator), torch.rand(shape, generator=generator) < 0.4


@needs_topolosses
def test_a_weak_place_in_a_ring_by_hand() -> None:
    # The hole is born at the weak place, 0.4, and not at 1; both die at 0: 2 * 0.6**2. Both have one piece; its summit
    # is 0.9 in the prediction: 2 * 0.1**2.
    guess, truth = ring(0.4, 0.9), ring(1.0)
    assert loss_of(guess, truth) == pytest.approx(0.74)
    assert loss_of(guess, truth, essential=False) == pytest.approx(0.72)
    guess.requires_grad_()
    betti_matching_loss(guess[None, None], truth[None, None], BettiMatchingOptions(essential=False)).sum().backward()
    # The gradient is at the weak place, 2 * 2 * (0.4 - 1), and where the hole dies, which is right already.
    assert guess.grad.nonzero().tolist() == [[3, 1]]
    assert float(guess.grad[3, 1]) == pytest.approx(-2.4)


@needs_topolosses
def test_a_second_piece_by_hand() -> None:
    # A piece born at 0.6 that joins nothing before 0: its square, or with both ends pushed past each other (in terms of
    # one minus the probability: birth 0.4, death 1) 2 * (0.6**2 + 1**2).
    guess, truth = ring(1.0), ring(1.0)
    guess[3, 7] = 0.6
    assert loss_of(guess, truth) == pytest.approx(0.36)
    assert loss_of(guess, truth, push_unmatched=True) == pytest.approx(2 * (0.36 + 1))
    # A second piece that the prediction lacks adds to the value alone.
    assert loss_of(truth, torch.where(guess == 0.6, 1.0, guess)) == pytest.approx(1.0)


@needs_topolosses
def test_a_missed_only_structure_costs_by_the_essential_class_alone() -> None:
    truth = torch.zeros(5, 4, 3, dtype=torch.float64)
    truth[2, 1, 1] = 1
    guess = 0.3 * truth
    assert loss_of(guess, truth) == pytest.approx(2 * 0.7**2)
    assert loss_of(guess, truth, essential=False) == 0
    assert loss_of(guess, torch.zeros_like(truth)) == pytest.approx(2 * 0.3**2)


@needs_topolosses
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_frame_joins_what_leaves_the_region_on_every_face(axis: int) -> None:
    # A rod of 0.9 from face to face, and of the label's 1: one piece in the frame, and a tunnel between rod and frame.
    # With a weak place of 0.5 in the rod there are two pieces without the frame, one with it, and the tunnel is born
    # at 0.5: 2 * 0.5**2.
    truth = torch.zeros(5, 5, 5, dtype=torch.float64)
    truth[2, 2] = 1
    guess = truth.clone()
    guess[2, 2, 2] = 0.5
    truth, guess = truth.movedim(2, axis), guess.movedim(2, axis)
    assert loss_of(guess, truth) == pytest.approx((1 - 0.5) ** 2)
    assert loss_of(guess, truth, relative=True) == pytest.approx(2 * 0.5**2)


@needs_topolosses
@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 4)])
def test_both_levels_are_the_mean_or_the_sum(shape: tuple[int, ...]) -> None:
    guess, truth = random_pair(1, *shape)
    above, below = (loss_of(guess, truth, filtration=level) for level in ("superlevel", "sublevel"))
    assert above != pytest.approx(below)
    assert loss_of(guess, truth, filtration="both") == pytest.approx((above + below) / 2)
    assert loss_of(guess, truth, filtration="both_sum") == pytest.approx(above + below)
    # What is above one minus the probability is what is below the probability.
    assert loss_of(1 - guess, ~truth, filtration="sublevel") == pytest.approx(above)


@needs_topolosses
@pytest.mark.parametrize("options", [{}, {"filtration": "both", "relative": True}, {"push_unmatched": True}])
@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_gradients_are_those_of_differences(options: dict, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (2, *shape), generator=generator)
    loss = BettiMatchingLoss(BettiMatchingOptions(**options))
    assert torch.autograd.gradcheck(lambda value: loss.per_sample(value, label, CaseContext()), logits, fast_mode=True)


@needs_topolosses
@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (5, 1, 3), (1, 1, 1), (2, 2, 2), (3, 5, 4)])
@pytest.mark.parametrize("fill", [0, 1])
def test_empty_full_and_thin_images_have_finite_losses_and_gradients(shape: tuple[int, ...], fill: int) -> None:
    generator = torch.Generator().manual_seed(3)
    options = BettiMatchingOptions(filtration="both", relative=True, region=3)
    label = torch.full((2, *shape), fill)
    for logits in (torch.randn(2, 2, *shape, generator=generator), torch.zeros(2, 2, *shape)):
        wanted = logits.bfloat16().requires_grad_()
        loss = BettiMatchingLoss(options).per_sample(wanted, label, CaseContext())
        loss.sum().backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss).all()
        assert torch.isfinite(wanted.grad).all()


@needs_topolosses
@pytest.mark.parametrize("filtration", ["superlevel", "sublevel", "both"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_perfect_prediction_costs_nothing(filtration: str, relative: bool) -> None:
    _, truth = random_pair(7, 6, 5, 4)
    assert loss_of(truth.double(), truth, filtration=filtration, relative=relative) == 0


@needs_topolosses
def test_samples_and_classes_are_matched_on_their_own() -> None:
    generator = torch.Generator().manual_seed(5)
    logits, label = torch.randn(2, 3, 6, 5, generator=generator), torch.randint(0, 3, (2, 6, 5), generator=generator)
    loss = BettiMatchingLoss(BettiMatchingOptions(filtration="both"))
    together = loss.per_sample(logits, label, CaseContext())
    torch.testing.assert_close(together[[1]], loss.per_sample(logits[[1]], label[[1]], CaseContext()))
    renamed = torch.tensor([0, 2, 1])
    torch.testing.assert_close(together, loss.per_sample(logits[:, renamed], renamed[label], CaseContext()))


@needs_topolosses
def test_the_region_holds_a_voxel_of_the_label_and_changes_from_step_to_step() -> None:
    label = torch.zeros(2, 30, 9, 20, dtype=torch.int64)
    label[0, 3:27, 4, 17] = 1
    logits = torch.zeros(2, 2, 30, 9, 20)
    logits[1, 1, 28, 2, 3] = 5.0
    loss = BettiMatchingLoss(BettiMatchingOptions(region=8))
    inside = set()
    for step in range(12):
        wanted = logits.clone().requires_grad_()
        values = loss.per_sample(wanted, label, CaseContext(torch.tensor([3, 8]), step=step))
        again = loss.per_sample(wanted, label, CaseContext(torch.tensor([3, 8]), step=step))
        torch.testing.assert_close(values, again)
        values.sum().backward()
        touched = wanted.grad[0, 1].nonzero()
        assert len(touched)
        assert (touched.amax(0) - touched.amin(0) < 8).all()
        inside.add(tuple(touched.amin(0).tolist()))
        # The label of the other sample is empty: its region is where the prediction is highest, and its summit goes.
        assert wanted.grad[1, 1, 28, 2, 3] > 0
    assert len(inside) > 3


@needs_topolosses
def test_processes_give_what_is_found_here() -> None:
    guess, truth = random_pair(6, 2, 2, 6, 5, 7)
    found = [
        betti_matching_loss(guess, truth.double(), BettiMatchingOptions(workers=workers, filtration="both"))
        for workers in (0, 1)
    ]
    own._pool(1).shutdown()
    own._pool.cache_clear()
    assert torch.equal(*found)


def test_the_option_every_is_the_terms() -> None:
    if importlib.util.find_spec("topolosses") is None:
        pytest.skip("the extra topology has no wheel for this platform")
    assert build_term("betti_matching", {"every": 5}).every == 5
    assert build_term("dice_ce", {}).every == 1


def test_a_missing_package_is_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    module.compiled_matching.cache_clear()
    with pytest.raises(InputError, match=r"^[^\n]*pip install 'equivox\[topology\]'$"):
        build_term("betti_matching", {})
    monkeypatch.undo()
    module.compiled_matching.cache_clear()
