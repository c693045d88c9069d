"""Groups of patients against the rest as arrays, with their differences and standard errors, within blocks or free."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from equivox.errors import InputError
from equivox.metrics.statistics.finite import require_finite


@dataclass(frozen=True)
class Blocks:
    """The blocks that patients are permuted within, such as the sites.

    Attributes:
        attribute: What the blocks are, such as ``site``.
        groups: One block a patient; those of unknown block (None) are a block of their own.
    """

    attribute: str
    groups: tuple[str | None, ...]


@dataclass(frozen=True)
class Untested:
    """A group that is large enough but too much alone in its blocks to be compared within them.

    Attributes:
        attribute: The attribute.
        group: The group.
        patients: Patients of the group.
        compared: Those of them whose block also has patients of the rest.
        rest_compared: Patients of the rest whose block also has patients of the group.
        within: What the blocks are.
    """

    attribute: str
    group: str
    patients: int
    compared: int
    rest_compared: int
    within: str


@dataclass(frozen=True)
class Design:
    """The contrasts of a family as arrays.

    Attributes:
        keys: Attribute and group of each contrast.
        members: Which patients are in the group.
        rests: Which are in the rest.
        blocks: One number a patient.
        free: Which contrasts are not within blocks.
    """

    keys: list[tuple[str, str]]
    members: Bool[np.ndarray, "patients contrasts"]
    rests: Bool[np.ndarray, "patients contrasts"]
    blocks: Int[np.ndarray, " patients"]
    free: Bool[np.ndarray, " contrasts"]

    @property
    def known(self) -> Bool[np.ndarray, " patients"]:
        """Which patients take part in a contrast."""
        result: np.ndarray = (self.members | self.rests).any(axis=1)
        return result

    def of(self, patients: Bool[np.ndarray, " patients"] | Int[np.ndarray, " chosen"]) -> "Design":
        """Return the contrasts among these patients, in their order."""
        return Design(self.keys, self.members[patients], self.rests[patients], self.blocks[patients], self.free)

    def contrast(self, index: int) -> "Design":
        """Return one contrast and the patients that count in it: those in blocks with patients on both sides."""
        one = Design(
            [self.keys[index]],
            self.members[:, [index]],
            self.rests[:, [index]],
            np.zeros_like(self.blocks) if self.free[index] else self.blocks,
            self.free[[index]],
        )
        shared = _shared(one.members[:, 0], one.rests[:, 0], one.blocks)[:, None]
        return replace(one, members=one.members & shared, rests=one.rests & shared)

    def kinds(self) -> Iterator[tuple[bool, Bool[np.ndarray, " contrasts"], Int[np.ndarray, " patients"]]]:
        """Yield, for free contrasts and for those within blocks: whether free, which they are, and their blocks.

        Free ones have all patients in one block. A kind without a contrast is left out.
        """
        for free in (True, False):
            chosen = self.free == free
            if chosen.any():
                yield free, chosen, np.zeros_like(self.blocks) if free else self.blocks

    def welch(
        self, samples: Float[np.ndarray, "draws patients"]
    ) -> tuple[Float[np.ndarray, "draws contrasts"], Float[np.ndarray, "draws contrasts"]]:
        """Return the differences, within blocks where they are so tested, and their standard errors."""
        difference = np.empty((len(samples), len(self.keys)))
        error = np.empty_like(difference)
        for _, chosen, blocks in self.kinds():
            found = differences_within_blocks(samples, self.members[:, chosen], self.rests[:, chosen], blocks)
            difference[:, chosen], error[:, chosen] = found
        return difference, error


def family_design(
    attributes: Mapping[str, Sequence[str | None]], blocks: Blocks | None, minimum: int
) -> tuple[Design, tuple[Untested, ...]]:
    """Return the contrasts that are tested, and the groups that blocks leave too few patients of."""
    patients = len(next(iter(attributes.values()), ()))
    codes = np.zeros(patients, dtype=np.int64) if blocks is None else _codes(blocks.groups)
    keys: list[tuple[str, str]] = []
    members, rests, free, untested = [], [], [], []
    for name, groups in attributes.items():
        known = np.array([group is not None for group in groups], dtype=bool)
        for group in sorted({label for label in groups if label is not None}):
            inside = np.array([label == group for label in groups])
            rest = known & ~inside
            if inside.sum() < minimum or rest.sum() < minimum:
                continue
            within = blocks is not None and name != blocks.attribute
            if blocks is not None and within:
                shared = _shared(inside, rest, codes)
                compared, rest_compared = int((inside & shared).sum()), int((rest & shared).sum())
                if min(compared, rest_compared) < minimum:
                    n = int(inside.sum())
                    untested.append(Untested(name, group, n, compared, rest_compared, blocks.attribute))
                    continue
            keys.append((name, group))
            members.append(inside)
            rests.append(rest)
            free.append(not within)
    sides = [np.stack(side, axis=1) if side else np.zeros((patients, 0), dtype=bool) for side in (members, rests)]
    return Design(keys, sides[0], sides[1], codes, np.array(free, dtype=bool)), tuple(untested)


def one_contrast(groups: Sequence[str | None], group: str, blocks: Blocks | None = None) -> Design:
    """Return one group against all others that are known, with the patients that count in it.

    Args:
        groups: One group a patient, None where it is not known.
        group: The group.
        blocks: What it is compared within, if anything.
    """
    known = np.array([label is not None for label in groups], dtype=bool)
    inside = np.array([label == group for label in groups], dtype=bool)
    codes = np.zeros(len(groups), dtype=np.int64) if blocks is None else _codes(blocks.groups)
    whole = Design([("", group)], inside[:, None], (known & ~inside)[:, None], codes, np.array([blocks is None]))
    return whole.contrast(0)


def check_patients(
    values: Float[np.ndarray, " patients"], attributes: Mapping[str, Sequence[str | None]], blocks: Blocks | None
) -> None:
    """Refuse values, groups or blocks that are not one a patient.

    Raises:
        InputError: If a value is missing, or an attribute or the blocks have another number of patients.
    """
    require_finite(values)
    given = {f"attribute {name}": groups for name, groups in attributes.items()}
    if blocks is not None:
        given[f"blocks of {blocks.attribute}"] = blocks.groups
    for name, groups in given.items():
        if len(groups) != len(values):
            msg = f"{name}: expected {len(values)} groups, one a patient, got {len(groups)}; align the table"
            raise InputError(msg)


def differences_within_blocks(
    samples: Float[np.ndarray, "draws patients"],
    members: Bool[np.ndarray, "patients contrasts"],
    rests: Bool[np.ndarray, "patients contrasts"],
    blocks: Int[np.ndarray, " patients"],
) -> tuple[Float[np.ndarray, "draws contrasts"], Float[np.ndarray, "draws contrasts"]]:
    """Return the differences within blocks and their HC2 standard errors; for one block, those of Welch.

    A patient's residual is that of the regression on group and blocks: its distance from the mean of the own side of
    the block, and how far the block's difference lies from that of all blocks.
    """
    names = np.unique(blocks)
    # A slice for a single block, as masks copy what they take.
    places = [slice(None)] if len(names) == 1 else [blocks == block for block in names]
    # Centring first keeps the sums of squares from cancelling; a shift of a whole block changes nothing.
    centred = samples.astype(np.float64)
    for place in places:
        centred[:, place] -= samples[:, place].mean(axis=1, keepdims=True)
    squares = centred * centred
    total = squares.sum(axis=1)[:, None, None]
    counts = [np.stack([side[place].sum(axis=0) for place in places]).astype(float) for side in (members, rests)]
    n_group, n_rest = counts
    n_block = n_group + n_rest
    weights = np.divide(n_group * n_rest, n_block, out=np.zeros_like(n_group), where=n_block > 0)
    whole = weights.sum(axis=0)
    apart, spreads = [], []
    for side, n in zip((members, rests), counts, strict=True):
        used = np.maximum(n, 1.0)
        cells = [side[place].astype(np.float64) for place in places]
        mean = np.stack([centred[:, place] @ cell for place, cell in zip(places, cells, strict=True)], axis=1) / used
        square = np.stack([squares[:, place] @ cell for place, cell in zip(places, cells, strict=True)], axis=1)
        apart.append(mean)
        spreads.append(np.maximum(square - n * mean * mean, 0.0))
    by_block = apart[0] - apart[1]
    difference = (weights * by_block).sum(axis=1) / whole
    variance = np.zeros_like(difference)
    for n, other, spread in zip(counts, counts[::-1], spreads, strict=True):
        # What a patient's side lies from the block's mean, per unit of difference.
        reach = np.divide(other, n_block, out=np.zeros_like(other), where=n_block > 0)
        leverage = np.divide(1.0, n_block, out=np.zeros_like(n_block), where=n_block > 0) + reach**2 / whole
        residual = spread + n * (reach * (by_block - difference[:, None])) ** 2
        # What rounding leaves of a spread of exactly zero.
        residual[residual <= 1e-13 * total] = 0.0
        free = np.where(weights > 0, 1 - leverage, 1.0)
        variance += ((weights > 0) * (reach / whole) ** 2 * residual / free).sum(axis=1)
    return difference, np.sqrt(variance)


def studentised(
    difference: Float[np.ndarray, "draws contrasts"], error: Float[np.ndarray, "draws contrasts"]
) -> Float[np.ndarray, "draws contrasts"]:
    """Return |T|; two constant sides give 0 where they are equal and infinity where they differ."""
    size = np.abs(difference)
    result = np.where(size > 1e-12, np.inf, 0.0)
    np.divide(size, error, out=result, where=error > 0)
    return result


def _codes(groups: Sequence[str | None]) -> Int[np.ndarray, " patients"]:
    numbers = {name: number for number, name in enumerate(sorted({name for name in groups if name is not None}), 1)}
    return np.array([0 if name is None else numbers[name] for name in groups], dtype=np.int64)


def _shared(
    members: Bool[np.ndarray, " patients"], rests: Bool[np.ndarray, " patients"], blocks: Int[np.ndarray, " patients"]
) -> Bool[np.ndarray, " patients"]:
    """Return which patients are in a block with patients on both sides."""
    result: np.ndarray = np.isin(blocks, np.intersect1d(blocks[members], blocks[rests]))
    return result
