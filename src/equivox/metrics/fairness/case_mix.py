"""What is left of a group's difference when its patients are as hard to segment as the rest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit

from equivox.errors import InputError
from equivox.metrics.statistics.bootstrap import MINIMUM_PATIENTS
from equivox.metrics.statistics.finite import require_finite

PER_PARAMETER: Final = 5
"""Patients that each parameter of the regression needs."""

_RARE: Final = 5
"""Values of a categorical covariate with fewer patients are taken together."""

_SAME: Final = 1e-8


@dataclass(frozen=True)
class AdjustedDifference:
    """A group's difference to the rest, as it is and with the case mix taken into account.

    Attributes:
        group: The group.
        patients: Its patients whose case mix is known.
        rest_patients: Those of the other groups.
        raw: Mean of the group minus mean of the rest, over these patients.
        adjusted: The same at equal covariates, None where it is not given.
        low: Lower end of its interval, which is not simultaneous over groups.
        high: Upper end.
        covariates: What was adjusted for.
        dropped: Covariate -> why it was not adjusted for.
        reason: Why `adjusted` is not given, else None.
    """

    group: str
    patients: int
    rest_patients: int
    raw: float | None
    adjusted: float | None = None
    low: float | None = None
    high: float | None = None
    covariates: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


def adjusted_difference(
    values: Float[np.ndarray, " patients"],
    groups: Sequence[str | None],
    group: str,
    covariates: Mapping[str, np.ndarray | Sequence[str | None]],
    *,
    minimum: int = MINIMUM_PATIENTS,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> AdjustedDifference:
    """Adjust the difference of a group to the rest for case mix, to stand beside the raw one and never instead.

    Ordinary least squares of the values on the group and the covariates, one row a patient, with HC3 standard errors,
    as scores do not vary alike in all groups. The coefficient of the group is the difference at equal covariates, if
    they act linearly and alike in the group and the rest. A covariate may lie on the causal path (a group may score
    lower *because* its lesions are smaller), and one that is not measured is not adjusted for: the number describes
    and explains nothing.

    A numeric covariate enters linearly; of a categorical one each value has its own level, those of fewer than 5
    patients together, as has "not known". A covariate without variation, or one that with those before it tells the
    group or nothing new, is left out and named. Patients for whom a numeric covariate is missing are left out, unless
    it is missing for all.

    Args:
        values: One value a patient, such as the patient's mean Dice.
        groups: One group a patient; patients of unknown group (None) play no part.
        group: The group to compare with all others.
        covariates: Name -> one value a patient: numbers (NaN where missing), or texts (None where not known).
        minimum: Below this many patients in the group or the rest nothing is given; nor with fewer than
            `PER_PARAMETER` patients a parameter.
        confidence: Of the interval, which uses the t distribution.
        bounds: The differences that are possible; the interval is cut there.

    Raises:
        InputError: If a value is missing, or a covariate has another number of patients.

    References:
        MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators", J Econometrics 1985.
        Long and Ervin, "Using heteroscedasticity consistent standard errors", The American Statistician 2000.

    Example:
        >>> volume = np.arange(40.0)
        >>> small = ["a" if value < 20 else "b" for value in volume]
        >>> found = adjusted_difference(0.5 + 0.01 * volume, small, "a", {"volume": volume})
        >>> round(found.raw, 3), abs(round(found.adjusted, 6))
        (-0.2, 0.0)
    """
    _check(values, covariates)
    known = np.array([name is not None for name in groups], dtype=bool)
    numeric = {name: one for name, one in covariates.items() if isinstance(one, np.ndarray)}
    dropped = {name: "not known for any patient" for name, one in numeric.items() if not np.isfinite(one[known]).any()}
    for name, one in numeric.items():
        if name not in dropped:
            known = known & np.isfinite(one)
    member = np.array([name == group for name in groups], dtype=bool)[known]
    sample = values[known].astype(np.float64)
    n_group, n_rest = int(member.sum()), int((~member).sum())
    raw = float(sample[member].mean() - sample[~member].mean()) if n_group and n_rest else None
    if min(n_group, n_rest) < minimum:
        reason = f"fewer than {minimum} patients in the group or the rest"
        return AdjustedDifference(group, n_group, n_rest, raw, dropped=dropped, reason=reason)
    blocks, more = _blocks(covariates, known, member, tuple(dropped))
    dropped |= more
    used = tuple(blocks)
    if not blocks:
        reason = "there is nothing to adjust for"
        return AdjustedDifference(group, n_group, n_rest, raw, dropped=dropped, reason=reason)
    design = np.column_stack([np.ones(len(sample)), member.astype(np.float64), *blocks.values()])
    parameters = design.shape[1]
    if len(sample) < PER_PARAMETER * parameters:
        reason = f"{len(sample)} patients are too few for {parameters} parameters"
        return AdjustedDifference(group, n_group, n_rest, raw, dropped=dropped, reason=reason)
    estimate, error = _ols_hc3(design, sample)
    reach = float(stdtrit(len(sample) - parameters, 0.5 + confidence / 2)) * error
    low, high = (float(np.clip(end, *bounds)) for end in (estimate - reach, estimate + reach))
    return AdjustedDifference(group, n_group, n_rest, raw, estimate, low, high, used, dropped)


def _blocks(
    covariates: Mapping[str, np.ndarray | Sequence[str | None]],
    known: Bool[np.ndarray, " patients"],
    member: Bool[np.ndarray, " known"],
    skip: tuple[str, ...],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the columns of the covariates that can be adjusted for, and why the others cannot."""
    kept: dict[str, np.ndarray] = {}
    dropped = {}
    base = np.ones((int(known.sum()), 1))
    indicator = member.astype(np.float64)[:, None]
    for name, one in covariates.items():
        if name in skip:
            continue
        if isinstance(one, np.ndarray):
            columns = one[known].astype(np.float64)[:, None]
        else:
            columns = _levels([value for value, used in zip(one, known, strict=True) if used])
        columns = columns - columns.mean(axis=0)
        size = np.sqrt((columns**2).mean(axis=0))
        if not columns.shape[1] or not (size > _SAME * max(1.0, float(np.abs(columns).max()))).all():
            dropped[name] = "the same for all patients"
            continue
        wider = np.column_stack([base, columns / size])
        if np.linalg.matrix_rank(wider, _SAME * len(wider)) < wider.shape[1]:
            dropped[name] = "follows from the other covariates"
        elif np.linalg.matrix_rank(np.column_stack([wider, indicator]), _SAME * len(wider)) == wider.shape[1]:
            dropped[name] = "tells the group: no patient of the group has like ones in the rest"
        else:
            kept[name], base = columns / size, wider
    return kept, dropped


def _levels(values: Sequence[str | None]) -> Float[np.ndarray, "known levels"]:
    """Return a column of 0 and 1 for every level but the most frequent one; rare ones are one level."""
    counts = Counter(values)
    rare = {value for value, count in counts.items() if count < _RARE}
    if rare and sum(counts[value] for value in rare) < _RARE and len(rare) < len(counts):
        # Too few even together: they join the smallest level.
        rare.add(min((value for value in counts if value not in rare), key=lambda value: (counts[value], str(value))))
    joined: list[tuple[bool, str | None]] = [(True, None) if value in rare else (False, value) for value in values]
    order = [level for level, _ in Counter(joined).most_common()][1:]
    return np.array([[float(value == level) for level in order] for value in joined]).reshape(len(values), len(order))


def _ols_hc3(
    design: Float[np.ndarray, "patients parameters"], values: Float[np.ndarray, " patients"]
) -> tuple[float, float]:
    """Return the second coefficient and its HC3 standard error."""
    q, r = np.linalg.qr(design)
    coefficients = np.linalg.solve(r, q.T @ values)
    residuals = values - design @ coefficients
    leverage = (q * q).sum(axis=1)
    # A patient with a parameter of its own is fitted exactly and tells nothing of the spread.
    alone = 1 - leverage < _SAME
    scaled = np.where(alone, 0.0, residuals / np.where(alone, 1.0, 1 - leverage))
    influence = np.linalg.solve(r, q.T)[1]
    return float(coefficients[1]), float(np.sqrt(((influence * scaled) ** 2).sum()))


def _check(values: Float[np.ndarray, " patients"], covariates: Mapping[str, np.ndarray | Sequence[str | None]]) -> None:
    require_finite(values)
    for name, one in covariates.items():
        if len(one) != len(values):
            msg = f"covariate {name}: expected {len(values)} values, one a patient, got {len(one)}; align the table"
            raise InputError(msg)
