"""The tables of groups for papers: CSV for machines, LaTeX (booktabs) for manuscripts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equivox.atomic import write_text
from equivox.definitions import MetricKind
from equivox.reports.numbers import decimals, interval, metric_text, number, p_value, signed

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
}

_BESIDE: Final = {
    "difference_adjusted": "Difference adjusted for case mix (interval)",
    "mean_shrunk": "Shrunken mean",
}


def escape_latex(text: str) -> str:
    r"""Return `text` as LaTeX prints it, each special character escaped and line breaks as spaces.

    Example:
        >>> print(escape_latex("50 % of {a_b}"))
        50 \% of \{a\_b\}
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def write_group_tables(folder: Path, groups: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Write `groups.csv` and `groups.tex`.

    Args:
        folder: Where to.
        groups: What `groups.csv` of an evaluation holds.
        settings: The settings of the summary.
    """
    write_text(folder / "groups.csv", groups.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "groups.tex", latex_table(groups, settings))


def latex_table(groups: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Return one table for each role, to be used with the package booktabs; numbers read as on the page."""
    kind = metric_text(settings["primary_endpoint"]).kind
    label = escape_latex(metric_text(settings["primary_endpoint"]).label)
    level = escape_latex(f"{100 * settings['confidence']:g} %")
    heads = ["Group", "Patients", f"Mean {label} ({level} interval)", "Median", "Worst decile"]
    heads += ["Difference to the rest (simultaneous interval)", "Adjusted $p$"]
    # Tables of groups that have them: beside the raw numbers, never instead.
    beside = [name for name in _BESIDE if name in groups and groups[name].notna().any()]
    heads += [_BESIDE[name] for name in beside]
    sides = "lrlrrlr" + "".join("l" if name == "difference_adjusted" else "r" for name in beside)
    parts = []
    for role, rows in groups.groupby("role", sort=False):
        lines = [
            f"% {escape_latex(str(role))}",
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
        ]
        for attribute, members in rows.groupby("attribute", sort=False):
            title = escape_latex(str(attribute))
            lines += [r"\midrule", rf"\multicolumn{{{len(heads)}}}{{l}}{{\textit{{{title}}}}} \\"]
            lines += [" & ".join(_row(record, kind, beside)) + r" \\" for record in members.to_dict("records")]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _row(record: Mapping[Any, Any], kind: MetricKind, beside: Sequence[str]) -> list[str]:
    value = {str(key): None if pd.isna(one) else one for key, one in record.items()}
    places = decimals(kind, value["mean"], value["low"], value["high"])
    ends = interval(value["low"], value["high"], places)
    mean = number(value["mean"], places) + (f" ({ends})" if ends else "")
    gap = ""
    if value.get("difference") is not None:
        low, high = value["difference_low"], value["difference_high"]
        digits = decimals(kind, value["difference"], low, high)
        gap = f"{signed(value['difference'], digits)} ({interval(low, high, digits, sign=True)})"
    cells = [str(value["group"]), number(value["patients"], 0), mean]
    cells += [number(value["median"], places), number(value["worst_decile"], places), gap]
    cells.append(p_value(value.get("p_adjusted")) if gap else "")
    cells += [_beside(value, name, kind, places) for name in beside]
    return [escape_latex(cell) for cell in cells]


def _beside(value: Mapping[str, Any], name: str, kind: MetricKind, places: int) -> str:
    if value.get(name) is None:
        return ""
    if name == "mean_shrunk":
        return number(value[name], places)
    low, high = value["difference_adjusted_low"], value["difference_adjusted_high"]
    digits = decimals(kind, value[name], low, high)
    return f"{signed(value[name], digits)} ({interval(low, high, digits, sign=True)})"
