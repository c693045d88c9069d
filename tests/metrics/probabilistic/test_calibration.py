import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.probabilistic.calibration import (
    BINS,
    FINE_BINS,
    adaptive_calibration_error,
    brier_score,
    count_calibration,
    expected_calibration_error,
    mean_reliability,
    nothing_counted,
    reliability_curve,
)


def make_map(shape: tuple[int, ...] = (7, 9, 5), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.4, 0.6, shape)
    return probability, rng.random(shape) < probability**1.5


def test_errors_by_hand() -> None:
    # With two bins: [0, 1/2) holds .1, .3, .3 (one hit), [1/2, 1] holds .5 and 1 (both hits).
    counts = count_calibration(np.array([0.1, 0.3, 0.3, 0.5, 1.0]), np.array([False, True, False, True, True]))
    # |0.7 - 1| + |1.5 - 2| over 5 voxels.
    assert expected_calibration_error(counts, bins=2) == pytest.approx((0.3 + 0.5) / 5)
    # .01 + .49 + .09 + .25 + 0.
    assert brier_score(counts) == pytest.approx(0.84 / 5)
    curve = reliability_curve(counts, bins=2)
    assert curve.confidence.tolist() == pytest.approx([0.7 / 3, 0.75])
    assert curve.observed.tolist() == pytest.approx([1 / 3, 1.0])
    assert curve.weight.tolist() == [0.6, 0.4]
    # Five bins of one voxel; the two voxels of .3 share their hit: gaps .1, -.2, -.2, -.5, 0.
    assert adaptive_calibration_error(counts, bins=5) == pytest.approx(1.0 / 5)
    # Two bins of 2.5 voxels, the edge in the middle of the second .3: .1 - .2 - .1, then -.1 - .5.
    assert adaptive_calibration_error(counts, bins=2) == pytest.approx((0.2 + 0.6) / 5)
    # One bin: 2.2 against 3.
    assert adaptive_calibration_error(counts, bins=1) == pytest.approx(0.8 / 5)


@pytest.mark.parametrize("bins", [1, 2, 5, 10, 20, 100, 200])
def test_an_edge_belongs_to_the_bin_above_it_and_one_to_the_last(bins: int) -> None:
    edges = np.array([k / bins for k in range(bins + 1)])
    below = np.nextafter(edges[1:], 0)
    nothing = np.zeros(bins + 1, dtype=bool)
    at = reliability_curve(count_calibration(edges, nothing), bins=bins).weight * (bins + 1)
    np.testing.assert_allclose(at, [1] * (bins - 1) + [2])
    under = reliability_curve(count_calibration(below, nothing[1:]), bins=bins).weight * bins
    np.testing.assert_allclose(under, np.ones(bins))


def test_the_error_is_that_of_monai() -> None:
    monai = pytest.importorskip("monai.metrics.calibration")
    torch = pytest.importorskip("torch")
    probability, truth = make_map()
    probability = probability.astype(np.float32)
    theirs, theirs_hits, voxels = (
        part[0, 0].numpy()
        for part in monai.calibration_binning(
            torch.from_numpy(probability)[None, None], torch.from_numpy(truth)[None, None].float(), num_bins=BINS
        )
    )
    counts = count_calibration(probability, truth)
    curve = reliability_curve(counts)
    np.testing.assert_allclose(curve.weight, voxels / voxels.sum())
    np.testing.assert_allclose(curve.confidence, theirs, rtol=1e-5)
    np.testing.assert_allclose(curve.observed, theirs_hits, rtol=1e-5)
    metric = monai.CalibrationErrorMetric(num_bins=BINS, include_background=True, calibration_reduction="expected")
    metric(torch.from_numpy(probability)[None, None], torch.from_numpy(truth)[None, None].float())
    assert expected_calibration_error(counts) == pytest.approx(float(metric.aggregate()), rel=1e-5)


def test_the_brier_score_is_that_of_sklearn() -> None:
    brier_score_loss = pytest.importorskip("sklearn.metrics").brier_score_loss
    probability, truth = make_map()
    expected = brier_score_loss(truth.ravel(), probability.ravel())
    assert brier_score(count_calibration(probability, truth)) == pytest.approx(expected)


def test_the_adaptive_error_is_near_that_of_voxels_sorted_one_by_one() -> None:
    probability, truth = make_map((40, 25, 20))
    order = np.argsort(probability, axis=None)
    gaps = [
        abs(p.sum() - y.sum())
        for p, y in zip(
            np.array_split(probability.ravel()[order], 20), np.array_split(truth.ravel()[order], 20), strict=True
        )
    ]
    found = adaptive_calibration_error(count_calibration(probability, truth), bins=20)
    assert found == pytest.approx(sum(gaps) / probability.size, abs=0.003)


def test_probabilities_that_come_true_have_no_error() -> None:
    # k of 10 voxels of probability k/10 are of the class.
    probability = np.repeat(np.arange(11) / 10, 10)
    truth = np.tile(np.arange(10), 11) < np.repeat(np.arange(11), 10)
    counts = count_calibration(probability, truth)
    assert expected_calibration_error(counts) == pytest.approx(0, abs=1e-12)
    assert adaptive_calibration_error(counts) == pytest.approx(0, abs=1e-12)
    # p (1 - p) on average: 1.65 / 11.
    assert brier_score(counts) == pytest.approx(0.15)


@pytest.mark.parametrize("order", ["C", "F"])
def test_counts_of_parts_add_up_to_those_of_the_whole(order: str) -> None:
    probability, truth = make_map()
    probability = np.asarray(probability, order=order)
    whole = count_calibration(probability, truth)
    parts = count_calibration(probability[:3], truth[:3]) + count_calibration(probability[3:], truth[3:])
    assert (parts.voxels == whole.voxels).all()
    assert (parts.hits == whole.hits).all()
    np.testing.assert_allclose(parts.confidence, whole.confidence)
    assert brier_score(parts) == pytest.approx(brier_score(whole))
    assert whole.total == probability.size
    assert whole.hits.sum() == truth.sum()
    assert whole.confidence.sum() == pytest.approx(probability.sum())


def test_nothing_counted_has_no_error() -> None:
    nothing = nothing_counted()
    empty = count_calibration(np.zeros((0, 3, 1)), np.zeros((0, 3, 1), dtype=bool))
    for counts in (nothing, empty):
        assert expected_calibration_error(counts) is None
        assert adaptive_calibration_error(counts) is None
        assert brier_score(counts) is None
        assert np.isnan(reliability_curve(counts).observed).all()


def test_a_mean_curve_weighs_patients_and_not_voxels() -> None:
    # One patient with one voxel of .2, none of it a hit; one with nine of .3, all hits, and nine of .9.
    small = reliability_curve(count_calibration(np.array([0.2]), np.array([False])), bins=2)
    large = reliability_curve(count_calibration(np.repeat([0.3, 0.9], 9), np.repeat([True, False], 9)), bins=2)
    curve = mean_reliability([small, large])
    # Weights in the first bin: 1 and 1/2.
    assert curve.confidence.tolist() == pytest.approx([(0.2 + 0.15) / 1.5, 0.9])
    assert curve.observed.tolist() == pytest.approx([0.5 / 1.5, 0.0])
    assert curve.weight.tolist() == [0.75, 0.25]
    with pytest.raises(InputError, match="one or more curves"):
        mean_reliability([])


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.nan])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        count_calibration(np.array([0.5, bad]), np.array([True, True]))


def test_other_bins_and_shapes_are_refused() -> None:
    counts = count_calibration(np.array([0.5]), np.array([True]))
    with pytest.raises(InputError, match=f"a divisor of {FINE_BINS}, got 15"):
        expected_calibration_error(counts, bins=15)
    with pytest.raises(InputError, match="1 or more, got 0"):
        adaptive_calibration_error(counts, bins=0)
