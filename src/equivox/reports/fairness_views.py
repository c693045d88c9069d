"""What stands beside the raw comparison of groups on the page: adjusted, shrunken, spread of every metric, presence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equivox.reports.numbers import Number, decimals, interval, metric_text, metric_unit, number, signed

_COVARIATES: Final = {"volume": "structure volume", "slice_thickness": "slice thickness"}

_MEASURES: Final = {
    "gap": "largest minus smallest mean",
    "ratio": "smallest over largest mean",
    "es_sum": "equity-scaled, sum form",
    "es_std": "equity-scaled, deviation form",
}

_PARITIES: Final = ("demographic_parity", "equalized_odds")


@dataclass(frozen=True)
class BesideRow:
    """A group's raw numbers and what stands beside them; `reason` says why nothing was adjusted."""

    name: str
    small: bool
    mean: str
    shrunk: str
    weight: str
    raw: str
    raw_interval: str
    adjusted: str
    adjusted_interval: str
    adjusted_for: str
    reason: str


@dataclass(frozen=True)
class MeasureRow:
    """A measure of spread in one metric; `rows` is how many the metric has, on its first one."""

    metric: str
    unit: str
    rows: int
    worst_group: str
    measure: str
    value: str
    chance: str
    excess: str


@dataclass(frozen=True)
class PresenceRow:
    """A class whose presence is compared: of each parity the difference beside chance and excess, and the ratio."""

    class_name: str
    cells: Sequence[str]


@dataclass(frozen=True)
class FairnessView:
    """The part of an attribute that is exploratory and not in the forest plot."""

    beside: Sequence[BesideRow]
    not_adjusted_for: str
    shrunk_words: str
    spread: Sequence[MeasureRow]
    presence: Sequence[PresenceRow]
    presence_not: str


def fairness_view(attribute: Mapping[str, Any], settings: Mapping[str, Any]) -> FairnessView:
    """Work out an attribute's part; what the summary does not have is left out.

    Args:
        attribute: One of a table's attributes.
        settings: The settings of the summary.
    """
    presence = attribute.get("presence_parity") or {}
    return FairnessView(
        beside=_beside(attribute, settings),
        not_adjusted_for=_not_adjusted_for(attribute.get("adjusted") or []),
        shrunk_words=_shrunk_words(attribute, settings),
        spread=list(_spread(attribute.get("spread_by_metric") or {}, settings)),
        presence=list(_presence(presence)),
        presence_not=_presence_not(presence),
    )


def covariate_words(name: str) -> str:
    """Return a covariate of the case mix as a sentence names it; an attribute by its own name.

    Example:
        >>> covariate_words("slice_thickness"), covariate_words("site")
        ('slice thickness', 'site')
    """
    return _COVARIATES.get(name, name)


def shrunk_mean(group: Mapping[str, Any], places: int) -> str:
    """Write the shrunken mean of a group, a dash where there is none."""
    return number((group.get("shrunk") or {}).get("mean"), places)


def _beside(attribute: Mapping[str, Any], settings: Mapping[str, Any]) -> list[BesideRow]:
    kind = metric_text(settings["primary_endpoint"]).kind
    adjusted = {one["group"]: one for one in attribute.get("adjusted") or []}
    contrasts = {one["group"]: one for one in attribute["contrasts"]}
    if not adjusted and not any(group.get("shrunk") for group in attribute["groups"]):
        return []
    rows = []
    for group in attribute["groups"]:
        places = decimals(kind, group["mean"], group.get("low"), group.get("high"))
        one, contrast = adjusted.get(group["name"], {}), contrasts.get(group["name"], {})
        # As in the forest plot, a group that is not judged has no difference.
        # A difference within sites is itself adjusted for them: the raw one stands beside it.
        raw = contrast.get("raw_difference") if contrast.get("within") else contrast.get("difference")
        digits = decimals(kind, raw, contrast.get("low"), contrast.get("high"))
        rows.append(
            BesideRow(
                name=group["name"],
                small=bool(group["small"]),
                mean=number(group["mean"], places),
                shrunk=shrunk_mean(group, places),
                weight=_percent((group.get("shrunk") or {}).get("weight")),
                raw=signed(raw, digits),
                raw_interval=interval(contrast.get("low"), contrast.get("high"), digits, sign=True),
                adjusted=signed(one.get("adjusted"), digits),
                adjusted_interval=interval(one.get("low"), one.get("high"), digits, sign=True),
                adjusted_for=", ".join(covariate_words(name) for name in one.get("covariates", ())),
                reason=one.get("reason") or "",
            )
        )
    return rows


def _percent(weight: Number | None) -> str:
    return "" if weight is None else f"{number(100 * weight, 0)} %"


def _shrunk_words(attribute: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    shrunk = next((group["shrunk"] for group in attribute["groups"] if group.get("shrunk")), None)
    if shrunk is None:
        return ""
    kind = metric_text(settings["primary_endpoint"]).kind
    if shrunk["between_sd"] == 0:
        return (
            "The groups' means lie no further apart than chance alone would put them, so each shrunken mean is "
            f"that of all, {number(shrunk['towards'], decimals(kind, shrunk['towards']))}."
        )
    places = decimals(kind, shrunk["between_sd"]) + 1
    return (
        f"Shrunken means are drawn towards {number(shrunk['towards'], places)}; the groups' true means are estimated "
        f"to vary by a standard deviation of {number(shrunk['between_sd'], places)}."
    )


def _not_adjusted_for(adjusted: Sequence[Mapping[str, Any]]) -> str:
    """Return the covariates that could not be adjusted for, with the groups where it is not so for all."""
    found: dict[tuple[str, str], list[str]] = {}
    told = [one for one in adjusted if one.get("adjusted") is not None]
    for one in told:
        for name, reason in (one.get("dropped") or {}).items():
            found.setdefault((name, reason), []).append(str(one["group"]))
    pieces = []
    for (name, reason), groups in found.items():
        named = ", ".join(f"'{group}'" for group in groups[:4]) + (" and others" if len(groups) > 4 else "")
        where = "" if len(groups) == len(told) else f" for {named}"
        pieces.append(f"{covariate_words(name)}{where} ({reason})")
    return f"Not adjusted for: {'; '.join(pieces)}." if pieces else ""


def _spread(by_metric: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[MeasureRow]:
    for key, one in by_metric.items():
        text = metric_text(key)
        measures = [name for name in _MEASURES if one.get(name) is not None]
        for place, name in enumerate(measures):
            values = one[name]
            kind = "fraction" if name == "ratio" else text.kind
            # A digit more than a mean has, so that value, chance and excess add up to the eye.
            places = decimals(kind, values["value"]) + 1
            yield MeasureRow(
                metric=f"{text.label}, size" if text.better == "zero" else text.label,
                unit="" if name == "ratio" else metric_unit(key, settings),
                rows=len(measures) if place == 0 else 0,
                worst_group=str(one["worst_group"]),
                measure=_MEASURES[name],
                value=number(values["value"], places),
                chance=number(values["permutation_mean"], places),
                excess=signed(values["excess"], places),
            )


def _presence(by_class: Mapping[str, Any]) -> Iterator[PresenceRow]:
    for name, units in by_class.items():
        one = units.get("patient") or {}
        if one.get("reason") is not None:
            continue
        cells = []
        for parity in _PARITIES:
            difference, ratio = one.get(f"{parity}_difference") or {}, one.get(f"{parity}_ratio") or {}
            cells += [number(difference.get(part), 3) for part in ("value", "permutation_mean")]
            cells += [signed(difference.get("excess"), 3)]
            cells += [number(ratio.get("value"), 2)]
        yield PresenceRow(name, cells)


def _presence_not(by_class: Mapping[str, Any]) -> str:
    reasons: dict[str, list[str]] = {}
    for name, units in by_class.items():
        reason = (units.get("patient") or {}).get("reason")
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    if not reasons:
        return ""
    pieces = []
    for reason, names in reasons.items():
        named = ", ".join(names[:4]) + (f" and {len(names) - 4} more classes" if len(names) > 4 else "")
        pieces.append(f"{named}: {reason}")
    return f"Demographic parity and equalised odds of a class's presence are not defined for {'; '.join(pieces)}."
