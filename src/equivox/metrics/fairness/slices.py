"""Where a model fails: slices of the patients found by SliceLine on one half and confirmed on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from equivox.errors import InputError
from equivox.metrics.statistics.association import false_discovery
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS, difference_interval
from equivox.metrics.statistics.permutation import PERMUTATIONS, larger_mean_p

ALPHA: Final = 0.95
"""The weight of a slice's mean error against its size. At the library's own 0.6 a slice of a tenth of the patients is
found only where its mean error is more than 7 times that of all."""

_SPARE: Final = 4
"""Times as many slices are found as are kept, as some have too few patients in the other half."""

_MOST_SLICES: Final = 5
_MOST_PREDICATES: Final = 3

Predicate = tuple[str, str | None]
"""A column and the value that it has in the slice; None where it is not known."""


@dataclass(frozen=True)
class FoundSlice:
    """A slice as SliceLine found it. Its score is what it was chosen for, and so no evidence.

    Attributes:
        predicates: What its patients share.
        score: SliceLine's, above 0.
        patients: In the slice.
        mean: Their mean error.
    """

    predicates: tuple[Predicate, ...]
    score: float
    patients: int
    mean: float


@dataclass(frozen=True)
class ErrorSlice:
    """A slice that was found on one half of the patients and looked at in the other.

    Attributes:
        predicates: What its patients share.
        found_patients: Its patients in the half that it was found in.
        patients: Its patients in the other half, which all numbers below are about.
        rest_patients: The other patients of that half.
        mean: Mean error of the slice.
        rest_mean: Mean error of the rest.
        difference: Mean of the slice minus mean of the rest.
        low: Lower end of its interval, which is not simultaneous.
        high: Upper end.
        p: Of no larger mean error than in the rest.
        q: The same with all slices that were found taken into account (Benjamini and Hochberg).
        confirmed: Whether `q` is below the level.
    """

    predicates: tuple[Predicate, ...]
    found_patients: int
    patients: int
    rest_patients: int
    mean: float
    rest_mean: float
    difference: float
    low: float
    high: float
    p: float
    q: float
    confirmed: bool


@dataclass(frozen=True)
class SliceSearch:
    """What a search for slices found.

    Attributes:
        slices: The best score first.
        found_in: Patients of the half that was searched; 0 where none was.
        confirmed_in: Patients of the other half.
        columns: What slices could be made of.
        reason: Why nothing was searched, else None.
    """

    slices: tuple[ErrorSlice, ...]
    found_in: int
    confirmed_in: int
    columns: tuple[str, ...]
    reason: str | None = None


def discover_slices(
    errors: Float[np.ndarray, " patients"],
    table: Mapping[str, Sequence[str | None]],
    *,
    alpha: float = ALPHA,
    most: int = _MOST_SLICES,
    most_predicates: int = _MOST_PREDICATES,
    minimum: int = MINIMUM_PATIENTS,
    draws: int = PERMUTATIONS,
    bootstrap_draws: int = 4999,
    seed: int = 0,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> SliceSearch:
    """Find slices of patients with large errors in one half of them, and confirm each in the other half.

    The halves are random. In the first, SliceLine looks for the slices that score best. In the second, which played no
    part in finding them, the mean error of each slice is compared with that of all other patients: one-sided, as the
    first half told the direction, by permuting patients with Welch's statistic. The p-values of all slices found
    are adjusted together by Benjamini and Hochberg, so that among the slices called confirmed a share of no more than
    ``1 - confidence`` is expected to be so by chance. Nothing that the first half says of how bad a slice is can be
    believed, as it was chosen for that.

    Slices with too few patients in the other half are left out, which is told by their columns alone and not by their
    errors. Predicates that hold for the same patients in both halves are one slice, told with the fewest.

    Args:
        errors: One number a patient, 0 or more, such as one minus the Dice.
        table: Column -> one category a patient; None, where it is not known, is a category of its own.
        alpha: As in `find_slices`; likewise `most` and `most_predicates`.
        most: Slices to find.
        most_predicates: Columns that a slice may name.
        minimum: Patients that a slice, and the rest, must have in either half: 2 or more.
        draws: Permutations.
        bootstrap_draws: Resamples behind the intervals of the differences, which are bootstrap-t.
        seed: Of the halves and of all draws.
        confidence: Of the intervals; the level of the test is one minus it.
        bounds: The differences that are possible; intervals are cut there.

    Returns:
        The search; with a reason and without slices where there are fewer than ``4 * minimum`` patients, no column
        with two values, or no error above 0.

    Raises:
        InputError: If an error is negative or not finite, or a column has another number of patients.

    References:
        Sagadeeva and Boehm, "SliceLine", SIGMOD 2021.
        Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 1995.

    Example:
        >>> few = discover_slices(np.array([0.1, 0.3]), {"sex": ["F", "M"]})
        >>> few.slices, few.reason
        ((), '2 patients are too few: to find a slice of 10 and to confirm it takes 40')
    """
    _check(errors, table)
    columns = tuple(name for name, values in table.items() if len(set(values)) > 1)
    reason = _reason(errors, columns, minimum)
    if reason is not None:
        return SliceSearch((), 0, 0, columns, reason)
    n = len(errors)
    first = np.zeros(n, dtype=bool)
    first[np.random.default_rng(seed).permutation(n)[: n // 2]] = True
    searched = {name: [value for value, here in zip(table[name], first, strict=True) if here] for name in columns}
    found = find_slices(
        errors[first], searched, alpha=alpha, most=_SPARE * most, most_predicates=most_predicates, minimum=minimum
    )
    kept = [
        (one, inside)
        for one, inside in _distinct(found, table, n)
        if all(min(int(side.sum()), int((~side).sum())) >= minimum for side in (inside[first], inside[~first]))
    ][:most]
    second = errors[~first]
    p_values = [larger_mean_p(second, inside[~first], minimum=minimum, draws=draws, seed=seed) for _, inside in kept]
    slices = []
    for (one, inside), p, q in zip(kept, p_values, false_discovery(p_values), strict=True):
        own, rest = second[inside[~first]], second[~inside[~first]]
        interval = difference_interval(
            own, rest, draws=bootstrap_draws, seed=seed, confidence=confidence, minimum=minimum, bounds=bounds
        )
        if p is None or q is None or interval is None:  # a side with a single patient
            continue
        slices.append(
            ErrorSlice(
                predicates=one.predicates,
                found_patients=one.patients,
                patients=len(own),
                rest_patients=len(rest),
                mean=float(own.mean()),
                rest_mean=float(rest.mean()),
                difference=float(own.mean() - rest.mean()),
                low=interval.low,
                high=interval.high,
                p=p,
                q=q,
                confirmed=q < 1 - confidence,
            )
        )
    return SliceSearch(tuple(slices), int(first.sum()), int((~first).sum()), columns)


def find_slices(
    errors: Float[np.ndarray, " patients"],
    table: Mapping[str, Sequence[str | None]],
    *,
    alpha: float = ALPHA,
    most: int = _MOST_SLICES,
    most_predicates: int = _MOST_PREDICATES,
    minimum: int = MINIMUM_PATIENTS,
) -> tuple[FoundSlice, ...]:
    """Return the slices that score best, which SliceLine finds exactly; to be confirmed on other patients.

    A slice of ``m`` of ``n`` patients scores ``alpha (mean error of the slice / mean error of all - 1) - (1 - alpha)
    (n / m - 1)``; only slices that score above 0 are found.

    Args:
        errors: One number a patient, 0 or more.
        table: Column -> one category a patient; None, where it is not known, is a category of its own.
        alpha: Above 0, at most 1: how much the mean error counts against the size.
        most: Slices to return; more where the last ones score the same.
        most_predicates: Columns that a slice may name.
        minimum: Patients that a slice must have.

    Raises:
        InputError: If an error is negative or not finite, a column has another number of patients, or alpha is not in
            its range.

    References:
        Sagadeeva and Boehm, "SliceLine", SIGMOD 2021.

    Example:
        >>> site = ["A"] * 10 + ["B"] * 30
        >>> (one,) = find_slices(np.where(np.array(site) == "A", 0.4, 0.1), {"site": site})
        >>> one.predicates, one.patients
        ((('site', 'A'),), 10)
    """
    _check(errors, table)
    if not 0 < alpha <= 1:
        msg = f"alpha: expected a number above 0 and at most 1, got {alpha:g}; 0.9 or more suits hundreds of patients"
        raise InputError(msg)
    names = [name for name, values in table.items() if len(set(values)) > 1]
    if not names or not errors.any() or len(errors) < minimum:
        return ()
    from sliceline.slicefinder import Slicefinder

    # Numbers in place of the categories: None marks a column without predicate in what the library returns, and a
    # category may have any name.
    orders = {name: sorted(set(table[name]), key=lambda value: (value is None, value or "")) for name in names}
    codes = np.array([[orders[name].index(value) for value in table[name]] for name in names], dtype=object).T
    finder = Slicefinder(alpha=alpha, k=most, max_l=most_predicates, min_sup=minimum, verbose=False)
    finder.fit(codes, errors.astype(np.float64))
    found = []
    for cells, told in zip(finder.top_slices_, finder.top_slices_statistics_, strict=True):
        predicates = tuple(
            (name, orders[name][int(cell)]) for name, cell in zip(names, cells, strict=True) if cell is not None
        )
        found.append(FoundSlice(predicates, told["slice_score"], int(told["slice_size"]), told["slice_average_error"]))
    return tuple(found)


def _reason(errors: Float[np.ndarray, " patients"], columns: Sequence[str], minimum: int) -> str | None:
    if len(errors) < 4 * minimum:
        are = "1 patient is" if len(errors) == 1 else f"{len(errors)} patients are"
        return f"{are} too few: to find a slice of {minimum} and to confirm it takes {4 * minimum}"
    if not columns:
        return "nothing is known by which the patients differ"
    return None if errors.any() else "no patient has an error"


def _distinct(
    found: Sequence[FoundSlice], table: Mapping[str, Sequence[str | None]], patients: int
) -> list[tuple[FoundSlice, Bool[np.ndarray, " patients"]]]:
    """Return each set of patients once, in the order of the scores: told with the fewest columns, the first of them."""
    order = list(table)

    def told(one: FoundSlice) -> tuple[int, list[int]]:
        return len(one.predicates), [order.index(name) for name, _ in one.predicates]

    kept: dict[bytes, tuple[FoundSlice, Bool[np.ndarray, " patients"]]] = {}
    for one in found:
        inside = np.ones(patients, dtype=bool)
        for name, value in one.predicates:
            inside &= np.array([other == value for other in table[name]], dtype=bool)
        key = inside.tobytes()
        if key not in kept or told(one) < told(kept[key][0]):
            kept[key] = one, inside
    return list(kept.values())


def _check(errors: Float[np.ndarray, " patients"], table: Mapping[str, Sequence[str | None]]) -> None:
    if not (np.isfinite(errors).all() and (errors >= 0).all()):
        msg = "errors: expected one number of 0 or more a patient, got a negative or missing one; leave the patient out"
        raise InputError(msg)
    for name, values in table.items():
        if len(values) != len(errors):
            msg = f"column {name}: expected {len(errors)} values, one a patient, got {len(values)}; align the table"
            raise InputError(msg)
