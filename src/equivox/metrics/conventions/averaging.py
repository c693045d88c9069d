"""How a tool makes one mean of the values of many cases and classes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Averaging:
    """The way from a table of values to their mean.

    Attributes:
        first: What is averaged over first: the ``cases`` of each class and then the classes, or the ``classes`` of each
            case and then the cases.
        undefined: What a value that is not a number does to the mean: it is left out (``skip``); it is left out, but a
            class that is left with no value makes the mean NaN (``class``); it makes the mean NaN (``any``).
        of_nothing: The mean where every value is left out.
        words: What is averaged, to follow "takes".
    """

    first: Literal["cases", "classes"]
    undefined: Literal["skip", "class", "any"]
    words: str
    of_nothing: float = np.nan

    def mean(self, values: Float[np.ndarray, "cases classes"]) -> float:
        """Return the mean with every NaN left out; infinite where a value is.

        Example:
            >>> by_class = Averaging("cases", "skip", "the mean over classes of the mean over cases")
            >>> by_class.mean(np.array([[0.5, 0.9], [0.7, np.nan]])), by_class.mean(np.array([[np.nan]]))
            (0.75, nan)
        """
        inner = _means(values, axis=0 if self.first == "cases" else 1)
        defined = inner[~np.isnan(inner)]
        return float(defined.mean()) if len(defined) else self.of_nothing

    def reported(self, values: Float[np.ndarray, "cases classes"]) -> float:
        """Return the mean as the tool gives it: NaN where it does not leave out what is undefined, or has no case.

        Example:
            >>> Averaging("cases", "any", "").reported(np.array([[0.5, 0.9], [0.7, np.nan]]))
            nan
        """
        undefined = np.isnan(values)
        refused = {"skip": False, "class": undefined.all(axis=0).any(), "any": undefined.any()}[self.undefined]
        if refused or not len(values):
            return np.nan
        return self.mean(values)

    def by_class(self, values: Float[np.ndarray, "cases classes"]) -> list[float]:
        """Return the mean over the cases of each class as the tool gives it."""
        undefined = np.isnan(values)
        means = np.where(undefined.all(axis=0), self.of_nothing, _means(values, axis=0))
        if self.undefined == "any":
            means[undefined.any(axis=0)] = np.nan
        return [float(mean) for mean in means]


def _means(values: Float[np.ndarray, "cases classes"], axis: int) -> Float[np.ndarray, " n"]:
    """Return the means along an axis with every NaN left out, NaN where nothing remains."""
    defined = ~np.isnan(values)
    counts = defined.sum(axis=axis)
    sums = np.where(defined, values, 0.0).sum(axis=axis)
    means: np.ndarray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means
