"""Do the report's intervals, tests and verdicts keep their promises? Simulated, and shipped as the table it prints.

The table of `equivox.metrics.statistics.simulated` is made here, with `--ship`. Nothing is tuned on these simulations;
where a promise is not kept, the line says so.

    python benchmarks/report_statistics.py --repeats 200           # a look, under a minute
    python benchmarks/report_statistics.py --write --ship          # the shipped figures, some ten minutes
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, describe_machine, machine_line

import equivox.metrics.statistics.simulated as shipped
from equivox.metrics.fairness.verdict import verdict
from equivox.metrics.statistics.bootstrap import mean_interval
from equivox.metrics.statistics.permutation import contrast_family
from equivox.metrics.statistics.simulated import (
    ESTIMATES,
    POPULATIONS,
    SITUATIONS,
    SIZES,
    SMALLEST,
    Situation,
    SkewedDice,
    simulate_coverage,
    simulate_test,
)

MARGIN = 0.05


Row = dict[str, Any]


def coverage_row(scores: str, n: int, repeats: int) -> Row:
    return {"scores": scores, "patients": n, "repeats": repeats} | {
        estimate: round(simulate_coverage(POPULATIONS[scores], n, estimate, repeats=repeats, seed=n), 4)
        for estimate in ESTIMATES
    }


def widths(repeats: int) -> list[list[str]]:
    """The mean width of the intervals, as coverage alone can be bought by width."""
    rows = []
    for scores, population in POPULATIONS.items():
        for n in SIZES[1:]:
            samples = population.draw(np.random.default_rng(n), repeats, n)
            cells = []
            for method in ("bootstrap_t", "bca", "percentile"):
                low, high = shipped.mean_intervals(samples, method=method, draws=999).clip(0, 1).T
                cells.append(f"{(high - low).mean():.3f}")
            rows.append([scores, str(n), *cells])
    return rows


def test_rows() -> list[tuple[Any, ...]]:
    rows = []
    for situation in SITUATIONS:
        for smallest in SMALLEST:
            for scores in POPULATIONS:
                # Stretched misses would be no Dice; and where only one group has misses there are some.
                if situation in ("wider", "narrower") and scores != "no misses":
                    continue
                if situation == "more_misses" and scores == "no misses":
                    continue
                rows += [
                    (situation, smallest, scores, ratio) for ratio in ((1, 4) if situation == "exchangeable" else (3,))
                ]
    return rows


def test_row(situation: Situation, smallest: int, scores: str, ratio: int, repeats: int) -> Row:
    found = simulate_test(situation, POPULATIONS[scores], smallest, ratio=ratio, repeats=repeats, seed=smallest)
    return {
        "situation": situation,
        "scores": scores,
        "smallest": smallest,
        "groups": f"{smallest} + {ratio * smallest}",
        "found": round(found, 4),
        "repeats": repeats,
    }


def power_row(smallest: int, scores: str, repeats: int) -> Row:
    """Is the smallest gap that could have been seen found with 80 % power?"""
    population, rng = POPULATIONS[scores], np.random.default_rng(smallest)
    n = 4 * smallest
    pilots = [
        contrast_family(population.draw(rng, n), two_groups(smallest), draws=999, seed=pilot)
        for pilot in range(min(200, repeats))
    ]
    gaps = [family.contrasts[0].detectable_gap for family in pilots]
    gap = float(np.median(gaps))
    # The gap is the one that is found in the direction in which it takes more.
    found = min(
        simulate_test("exchangeable", population, smallest, shift=shift, repeats=repeats, seed=smallest)
        for shift in (gap, -gap)
    )
    return {
        "scores": scores,
        "smallest": smallest,
        "groups": f"{smallest} + {3 * smallest}",
        "gap": round(gap, 3),
        "gap_low": round(float(np.quantile(gaps, 0.1)), 3),
        "gap_high": round(float(np.quantile(gaps, 0.9)), 3),
        "found": round(found, 4),
        "repeats": repeats,
    }


def verdict_row(smallest: int, scores: str, gap: float, repeats: int) -> Row:
    """How often each answer is given where the true gap is none, or just the margin."""
    rng = np.random.default_rng([smallest, int(1000 * gap)])
    n = 4 * smallest
    sizes = {"F": smallest, "M": n - smallest}
    counts = dict.fromkeys(("difference", "ruled_out", "no_evidence", "cannot_say"), 0)
    for repeat in range(repeats):
        values = POPULATIONS[scores].draw(rng, n) - gap * (np.arange(n) < smallest)
        family = contrast_family(values, two_groups(smallest), draws=399, seed=repeat)
        counts[verdict("sex", sizes, family.contrasts, lambda _: None, margin=MARGIN).answer] += 1
    return (
        {"scores": scores, "smallest": smallest, "groups": f"{smallest} + {3 * smallest}"}
        | {"true_gap": gap, "margin": MARGIN, "repeats": repeats}
        | {answer: round(count / repeats, 4) for answer, count in counts.items()}
    )


def two_groups(smallest: int) -> dict[str, list[str | None]]:
    return {"sex": ["F"] * smallest + ["M"] * (3 * smallest)}


def strata(repeats: int) -> list[list[str]]:
    """The overall mean of two groups that differ, when the sample's composition is random or fixed."""
    rows, population = [], SkewedDice(0.0)
    for gap in (0.0, 0.1, 0.2):
        for composition in ("random", "fixed"):
            rng = np.random.default_rng([int(100 * gap), repeats])
            covered = [0, 0]
            for repeat in range(repeats):
                first = rng.random(60) < 0.5 if composition == "random" else np.arange(60) < 30
                values = population.draw(rng, 60) - gap * ~first
                groups = np.where(first, "a", "b").tolist()
                for index, by in enumerate((None, groups)):
                    interval = mean_interval(values, strata=by, draws=999, seed=repeat // 50)
                    covered[index] += (
                        interval is not None and interval.low <= population.mean - gap / 2 <= interval.high
                    )
            rows.append([f"{gap:.1f}", composition, *(f"{count / repeats:.3f}" for count in covered)])
    return rows


def table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def report(found: dict[str, Any], extra: dict[str, list[list[str]]]) -> str:
    made = found["made"]
    error = math.sqrt(0.05 * 0.95 / made["repeats"])
    fine = math.sqrt(0.05 * 0.95 / made["coverage_repeats"])
    head = (
        f"# Statistics of the report, simulated\n\n{made['machine']}\n\n"
        "A patient's Dice is Beta(9, 1.5), or 0 for the share of patients that is missed. Intervals: "
        f"{made['coverage_repeats']} samples, 999 resamples each, a share of .95 has a standard error of {fine:.4f}. "
        f"Tests: {made['repeats']} samples, 399 permutations each, a share of .05 has a standard error of {error:.4f}. "
        f"Made in {made['seconds']} s.\n"
    )
    names = list(ESTIMATES)
    parts = [
        table(
            "Coverage of the 95 % interval (n = 5: the report gives none; this is what it would be)",
            ["patients' scores", "n", *ESTIMATES.values()],
            [
                [row["scores"], str(row["patients"]), *(f"{row[name]:.3f}" for name in names)]
                for row in found["coverage"]
            ],
        ),
        table(
            "Mean width of the interval of a mean",
            ["patients' scores", "n", "bootstrap-t", "BCa", "percentile"],
            extra["widths"],
        ),
        table(
            "Coverage of the overall mean of two groups of 30 (no misses)",
            ["true gap", "composition of the sample", "without strata (default)", "stratified by group"],
            extra["strata"],
        ),
        table(
            "Size of the test, nominal .05",
            ["situation", "patients' scores", "groups", "found"],
            [
                [SITUATIONS[row["situation"]], row["scores"], row["groups"], f"{row['found']:.3f}"]
                for row in found["tests"]
            ],
        ),
        table(
            "The smallest gap that could have been seen, nominal power .80",
            ["patients' scores", "groups", "its median", "80 % of samples say", "found at the median"],
            [
                [
                    row["scores"],
                    row["groups"],
                    f"{row['gap']:.3f}",
                    f"{row['gap_low']:.3f} to {row['gap_high']:.3f}",
                    f"{row['found']:.3f}",
                ]
                for row in found["power"]
            ],
        ),
        table(
            f"Answers at a margin of {MARGIN}",
            ["patients' scores", "groups", "true gap", "evidence", "ruled out", "no evidence", "cannot say"],
            [
                [
                    row["scores"],
                    row["groups"],
                    f"{row['true_gap']:g}",
                    *(f"{row[answer]:.3f}" for answer in ("difference", "ruled_out", "no_evidence", "cannot_say")),
                ]
                for row in found["verdicts"]
            ],
        ),
    ]
    return "\n".join([head, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="Simulated samples a line; five times for intervals.")
    parser.add_argument("--write", action="store_true", help="Also write benchmarks/results/report_statistics.md.")
    parser.add_argument("--ship", action="store_true", help="Also write the table that the package ships.")
    parser.add_argument("--workers", type=int, default=2, help="Processes.")
    arguments = parser.parse_args()
    repeats, started = arguments.repeats, time.perf_counter()
    found: dict[str, Any] = {}
    answered = [(20, "no misses"), (50, "no misses"), (50, "3 % missed")]
    cells: dict[str, tuple[Callable[..., Row], list[tuple[Any, ...]]]] = {
        "coverage": (coverage_row, [(scores, n, 5 * repeats) for scores in POPULATIONS for n in SIZES]),
        "tests": (test_row, [(*row, repeats) for row in test_rows()]),
        "power": (power_row, [(n, scores, repeats) for n in SMALLEST for scores in POPULATIONS]),
        "verdicts": (verdict_row, [(*row, gap, repeats) for row in answered for gap in (0.0, MARGIN)]),
    }
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name, (make, rows) in cells.items():
            found[name] = list(pool.map(make, *zip(*rows, strict=True)))
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    extra = {"widths": widths(repeats), "strata": strata(repeats)}
    found["made"] = {
        "machine": machine_line(describe_machine("scipy")),
        "coverage_repeats": 5 * repeats,
        "repeats": repeats,
        "seconds": round(time.perf_counter() - started),
    }
    text = report(found, extra)
    print(text)
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "report_statistics.md").write_text(text, encoding="utf-8")
    if arguments.ship:
        rows = {name: value for name, value in found.items() if name != "made"}
        lines = [f' "made": {json.dumps(found["made"])}']
        lines += [
            f' "{name}": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in part) + "\n ]"
            for name, part in rows.items()
        ]
        path = Path(shipped.__file__).with_name("simulated.json")
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
