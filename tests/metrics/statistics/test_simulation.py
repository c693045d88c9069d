"""Coverage and size, simulated at the sizes at hand."""

import numpy as np

from equivox.metrics.statistics.simulation import LARGEST, simulated_coverage, simulated_size


def test_coverage_is_near_nominal_for_skewed_values() -> None:
    coverage = simulated_coverage(np.random.default_rng(0).beta(9, 1.5, 40))
    assert coverage is not None
    assert 0.9 < coverage <= 1.0


def test_coverage_is_poor_where_a_single_failure_carries_the_variance() -> None:
    # A sample of 12 misses the one failure with probability (11/12)^12 = .35; its interval is then far too narrow.
    values = np.append(np.linspace(0.85, 0.9, 11), 0.0)
    coverage = simulated_coverage(values)
    assert coverage is not None
    assert coverage < 0.75


def test_size_is_near_its_level_whatever_the_observed_difference() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0.6, 0.15, 20), rng.normal(0.8, 0.05, 60)])
    size = simulated_size(values, {"sex": ["F"] * 20 + ["M"] * 60}, repeats=300)
    assert size is not None
    # 300 repeats at .05 have a standard error of .013.
    assert 0.01 <= size <= 0.11


def test_nothing_is_simulated_for_few_or_for_very_many() -> None:
    assert simulated_coverage(np.linspace(0.5, 0.9, 9)) is None
    assert simulated_coverage(np.linspace(0.5, 0.9, LARGEST + 1)) is None
    assert simulated_size(np.linspace(0.5, 0.9, 12), {"sex": ["F"] * 6 + ["M"] * 6}) is None
    assert simulated_size(np.linspace(0.5, 0.9, 12), {}) is None
