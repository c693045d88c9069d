"""Do the report's intervals and tests keep their promises? Simulated coverage, size and power.

Each line is a promise and what came out, with the standard error that the number of repeats leaves. Nothing is tuned on
these simulations; where a promise is not kept, the line says so.

    python benchmarks/report_statistics.py                 # a few minutes
    python benchmarks/report_statistics.py --repeats 2000 --write
"""

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from machine import RESULTS, describe_machine, machine_line
from scipy import stats

from equivox.metrics.statistics.bootstrap import Interval, mean_interval, quantile_interval
from equivox.metrics.statistics.permutation import contrast_family

Draw = Callable[[np.random.Generator, int], np.ndarray]

POPULATIONS: dict[str, tuple[Draw, float, float]] = {
    # name: how to draw n patients, the true mean, the true median (nan where it is not needed)
    "Beta(9, 1.5): skewed Dice": (lambda rng, n: rng.beta(9, 1.5, n), 9 / 10.5, float(stats.beta(9, 1.5).median())),
    "Beta(4, 1): more skewed": (lambda rng, n: rng.beta(4, 1, n), 0.8, float(stats.beta(4, 1).median())),
    "Beta(20, 3) and 8 % total failures": (
        lambda rng, n: np.where(rng.random(n) < 0.08, 0.0, rng.beta(20, 3, n)),
        0.92 * 20 / 23,
        math.nan,
    ),
    "80 % perfect, the rest Beta(2, 2)": (
        lambda rng, n: np.where(rng.random(n) < 0.8, 1.0, rng.beta(2, 2, n)),
        0.9,
        math.nan,
    ),
}


def student(values: np.ndarray) -> Interval:
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def percentile(values: np.ndarray) -> Interval:
    means = values[np.random.default_rng(0).integers(0, len(values), (999, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))


def bootstrap_t(values: np.ndarray) -> Interval:
    interval = mean_interval(values, draws=999, bounds=(0.0, 1.0))
    assert interval is not None  # noqa: S101 - ten patients or more
    return interval


def stratified(values: np.ndarray, groups: np.ndarray) -> Interval:
    """The bootstrap-t interval with the composition by group held fixed, to compare with ours."""
    rng = np.random.default_rng(0)
    mean, variance, means, variances = 0.0, 0.0, 0.0, 0.0
    for group in np.unique(groups):
        part = values[groups == group]
        share, n = len(part) / len(values), len(part)
        sample = part[rng.integers(0, n, (999, n))]
        mean, variance = mean + share * part.mean(), variance + share**2 * part.var(ddof=1) / n
        means = means + share * sample.mean(axis=1)
        variances = variances + share**2 * sample.var(axis=1, ddof=1) / n
    low, high = np.quantile((means - mean) / np.sqrt(variances), [0.025, 0.975])
    return Interval(float(mean - high * math.sqrt(variance)), float(mean - low * math.sqrt(variance)))


def coverage_of_means(repeats: int) -> list[list[str]]:
    rows = []
    for name, (draw, truth, _) in POPULATIONS.items():
        for n in (12, 30, 100):
            rng = np.random.default_rng([n, repeats])
            samples = [draw(rng, n) for _ in range(repeats)]
            cells = []
            for method in (bootstrap_t, student, percentile):
                intervals = [method(sample) for sample in samples]
                covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
                width = np.mean([interval.high - interval.low for interval in intervals])
                cells.append(f"{covered:.3f} (width {width:.3f})")
            rows.append([name, str(n), *cells])
    return rows


def coverage_of_medians(repeats: int) -> list[list[str]]:
    rows = []
    for name, (draw, _, truth) in POPULATIONS.items():
        if math.isnan(truth):
            continue
        for n in (12, 30, 100):
            rng = np.random.default_rng([n, repeats])
            intervals = [quantile_interval(draw(rng, n), 0.5, draws=999) for _ in range(repeats)]
            covered = np.mean(
                [interval is not None and interval.low <= truth <= interval.high for interval in intervals]
            )
            rows.append([name, str(n), f"{covered:.3f}"])
    return rows


def strata(repeats: int) -> list[list[str]]:
    """The overall mean of two groups that differ, when the sample's composition is random or fixed."""
    rows = []
    for gap in (0.0, 0.1, 0.2):
        for composition in ("random", "fixed"):
            rng = np.random.default_rng([int(100 * gap), repeats])
            ours = theirs = 0
            for _ in range(repeats):
                first = rng.random(60) < 0.5 if composition == "random" else np.arange(60) < 30
                values = np.where(first, rng.beta(9, 1.5, 60), rng.beta(9, 1.5, 60) - gap)
                truth = 9 / 10.5 - gap / 2
                plain, by_group = mean_interval(values, draws=999), stratified(values, first)
                ours += plain is not None and plain.low <= truth <= plain.high
                theirs += by_group.low <= truth <= by_group.high
            rows.append([f"{gap:.1f}", composition, f"{ours / repeats:.3f}", f"{theirs / repeats:.3f}"])
    return rows


def size(repeats: int) -> list[list[str]]:
    rows = []
    settings: dict[str, tuple[int, int, float, float]] = {
        "20 / 100, the small group varies three times as much": (20, 100, 0.15, 0.05),
        "20 / 100, the small group varies a third as much": (20, 100, 0.05, 0.15),
        "12 / 48, the small group varies twice as much": (12, 48, 0.10, 0.05),
        "30 / 30, equal": (30, 30, 0.10, 0.10),
    }
    for name, (n, m, s, r) in settings.items():
        for shape in ("normal", "skewed"):
            rng = np.random.default_rng([n, m, repeats])
            groups: dict[str, list[str | None]] = {"g": ["a"] * n + ["b"] * m}
            raw = ours = 0
            for repeat in range(repeats):
                noise = rng.normal(0, 1, n + m) if shape == "normal" else _standard_skewed(rng, n + m)
                values = 0.8 + noise * np.repeat([s, r], [n, m])
                contrast = contrast_family(values, groups, draws=499, seed=repeat).contrasts[0]
                ours += contrast.p_adjusted < 0.05
                shuffled = rng.permuted(np.tile(values, (499, 1)), axis=1)
                gaps = np.abs(shuffled[:, :n].mean(axis=1) - shuffled[:, n:].mean(axis=1))
                raw += (1 + (gaps >= abs(contrast.difference)).sum()) / 500 < 0.05
            rows.append([name, shape, f"{ours / repeats:.3f}", f"{raw / repeats:.3f}"])
    return rows


def families(repeats: int) -> list[list[str]]:
    """Three attributes at once: size without a difference, and whether all intervals hold together with one."""
    rows = []
    for n in (60, 120, 200):
        for effect in (0.0, 0.1):
            rng = np.random.default_rng([n, repeats])
            found, together, alone, power, seen = 0, 0, 0, 0, []
            for repeat in range(repeats):
                sex = rng.choice(["F", "M"], n, p=[0.3, 0.7])
                site, age = rng.choice(["1", "2", "3"], n), rng.choice(["<40", "40-65", ">=65"], n)
                values = rng.beta(9, 1.5, n) - effect * (sex == "F")
                attributes = {"sex": sex.tolist(), "site": site.tolist(), "age": age.tolist()}
                family = contrast_family(values, attributes, draws=499, seed=repeat)
                truths = [(-effect if c.group == "F" else effect if c.group == "M" else None) for c in family.contrasts]
                # The true difference of a site or age group is that of its mix of sexes.
                truths = [
                    -effect * _mix(sex, site, age, c.attribute, c.group) if truth is None else truth
                    for truth, c in zip(truths, family.contrasts, strict=True)
                ]
                inside = [c.low <= t <= c.high for t, c in zip(truths, family.contrasts, strict=True)]
                together += all(inside)
                found += any(c.p_adjusted < 0.05 for c in family.contrasts)
                f = [c for c in family.contrasts if c.group == "F"]
                alone += bool(f) and f[0].low <= -effect <= f[0].high
                power += bool(f) and f[0].p_adjusted < 0.05
                seen += [c.detectable_gap for c in f]
            cells = [found, together, alone, power]
            rows.append([str(n), f"{effect:.1f}", *(f"{c / repeats:.3f}" for c in cells), f"{np.mean(seen):.3f}"])
    return rows


def gaps(repeats: int) -> list[list[str]]:
    """Is the smallest gap that could have been seen found with 80 % power?"""
    rows = []
    for n, m, s, r in ((30, 30, 0.1, 0.1), (20, 100, 0.15, 0.05), (12, 48, 0.1, 0.05)):
        rng = np.random.default_rng([n, m, repeats])
        groups: dict[str, list[str | None]] = {"g": ["a"] * n + ["b"] * m}
        found, seen = 0, []
        for repeat in range(repeats):
            pilot = 0.8 + rng.normal(0, 1, n + m) * np.repeat([s, r], [n, m])
            seen.append(contrast_family(pilot, groups, draws=499, seed=repeat).contrasts[0].detectable_gap)
        gap = float(np.median(seen))
        for repeat in range(repeats):
            values = 0.8 + rng.normal(0, 1, n + m) * np.repeat([s, r], [n, m]) - np.repeat([gap, 0.0], [n, m])
            found += contrast_family(values, groups, draws=499, seed=repeat).contrasts[0].p_adjusted < 0.05
        spread = f"{np.quantile(seen, 0.1):.3f} to {np.quantile(seen, 0.9):.3f}"
        rows.append([f"{n} / {m}, sd {s:g} / {r:g}", f"{gap:.3f}", spread, f"{found / repeats:.3f}"])
    return rows


def _mix(sex: np.ndarray, site: np.ndarray, age: np.ndarray, attribute: str, group: str) -> float:
    """The share of F in a group less that in the rest, as the true difference of means is proportional to it."""
    values = {"site": site, "age": age}[attribute]
    here = values == group
    return float((sex[here] == "F").mean() - (sex[~here] == "F").mean())


def _standard_skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    population = stats.beta(9, 1.5)
    result: np.ndarray = (rng.beta(9, 1.5, n) - population.mean()) / population.std()
    return result


def table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=300, help="Simulated samples a line.")
    parser.add_argument("--write", action="store_true", help="Also write benchmarks/results/report_statistics.md.")
    arguments = parser.parse_args()
    repeats, started = arguments.repeats, time.perf_counter()
    error = math.sqrt(0.05 * 0.95 / repeats)
    head = (
        f"# Statistics of the report, simulated\n\n{machine_line(describe_machine('scipy'))}\n\n"
        f"{repeats} samples a line: a share of .95 or .05 has a standard error of {error:.3f}.\n"
    )
    parts = [
        table(
            "Coverage of the 95 % interval of a mean",
            ["patients' scores", "n", "bootstrap-t (ours)", "Student's t", "percentile"],
            coverage_of_means(repeats),
        ),
        table(
            "Coverage of the 95 % interval of a median",
            ["patients' scores", "n", "percentile"],
            coverage_of_medians(repeats),
        ),
        table(
            "Coverage of the overall mean of two groups of 30",
            ["true gap", "composition of the sample", "without strata (ours)", "stratified by group"],
            strata(repeats),
        ),
        table(
            "Size of the test of one contrast, nominal .05",
            ["groups", "scores", "studentised (ours)", "raw difference"],
            size(repeats),
        ),
        table(
            "Three attributes as one family (8 contrasts; 30 % F)",
            [
                "n",
                "true gap of F",
                "any found",
                "all intervals hold",
                "that of F holds",
                "F found",
                "mean detectable gap of F",
            ],
            families(repeats),
        ),
        table(
            "The smallest gap that could have been seen, nominal power .80",
            ["groups", "its median", "80 % of samples say", "found at the median"],
            gaps(repeats),
        ),
    ]
    text = "\n".join([head, *parts])
    print(text)
    print(f"{time.perf_counter() - started:.0f} s")
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "report_statistics.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
