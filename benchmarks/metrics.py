"""Our scores of a case against MONAI's and surface-distance's: time, peak memory, agreement, and error against truth.

    python benchmarks/metrics.py [--repeats 5] [--quick]

Speed: Dice, IoU, HD95, ASSD and NSD of one class of one case, each tool in a process of its own with one thread, median
and range of the repeats. We get label maps and have to find the class; the others get what they ask for (boolean
arrays, tensors), made beforehand. surface-distance measures the surfaces once for its three scores; MONAI has one
call a score.

Accuracy: rasterised balls and shells whose distances are known, at random places within a voxel.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, describe_machine, machine_line

TOOLS = ("equivox", "surface-distance", "monai")
TOLERANCE_MM = 2.0
# Shape, spacing, and half axes in voxels of the reference's ellipsoid.
CASES = {
    "192x192x96": ((192, 192, 96), (1.0, 1.0, 2.0), (50.0, 60.0, 30.0)),
    "300x512x512": ((300, 512, 512), (1.0, 0.8, 0.8), (60.0, 70.0, 80.0)),
}
SPACINGS = [(1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (1.0, 1.0, 3.0), (0.7, 1.1, 1.7), (0.5, 0.5, 1.0)]
Scores = tuple[float, float]  # HD95 and ASSD in mm


def main() -> None:
    """Run both parts and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the small case and two phantoms of each kind")
    parser.add_argument("--worker", nargs=2, metavar=("TOOL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker[0], Path(options.worker[1]), options.repeats)))
        return
    cases = list(CASES)[:1] if options.quick else list(CASES)
    result = {
        "machine": describe_machine("monai", "surface-distance", "scipy", "edt"),
        "speed": {case: speed(case, options.repeats) for case in cases},
        "accuracy": accuracy(2 if options.quick else 8),
    }
    text = report(result)
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "metrics.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "metrics.md").write_text(text, encoding="utf-8")


# Speed ---------------------------------------------------------------------------------------------------------------


def speed(case: str, repeats: int) -> dict[str, Any]:
    """Return what each tool took for a case, measured in a process of its own."""
    shape, spacing, half_axes = CASES[case]
    environment = os.environ | dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, mask in zip(("reference", "prediction"), make_pair(shape, half_axes), strict=True):
            np.save(folder / file, mask)
        np.save(folder / "spacing", spacing)
        rows = {}
        for tool in TOOLS:
            arguments = [sys.executable, __file__, "--worker", tool, name, "--repeats", str(repeats)]
            output = subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout
            rows[tool] = json.loads(output.splitlines()[-1])
    return rows


def make_pair(shape: tuple[int, ...], half_axes: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return an ellipsoid and one that is shifted, stretched and has waves on its surface."""
    axes = [np.arange(side, dtype=np.float32) - side / 2 for side in shape]
    i, j, k = (axis.reshape([-1 if n == place else 1 for n in range(3)]) for place, axis in enumerate(axes))
    a, b, c = half_axes
    reference = (i / a) ** 2 + (j / b) ** 2 + (k / c) ** 2 <= 1
    waves = np.float32(0.04) * np.sin(i / 5) * np.cos(j / 6) * np.sin(k / 4)
    prediction = ((i - 1.5) / a) ** 2 + ((j + 1) / (b * 0.98)) ** 2 + (k / (c * 1.02)) ** 2 <= 1 + waves
    return reference.astype(np.uint8), prediction.astype(np.uint8)


def measure(tool: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Score the case several times; the first, which imports and fills tables, is not counted."""
    warnings.simplefilter("ignore")
    reference, prediction = np.load(folder / "reference.npy"), np.load(folder / "prediction.npy")
    spacing = tuple(np.load(folder / "spacing.npy").tolist())
    score = {"equivox": equivox_case, "surface-distance": surface_distance_case, "monai": monai_case}[tool](
        reference, prediction, spacing
    )
    scores = score()
    wall, cpu, peak = [], [], []
    for _ in range(repeats):
        before = start_peak()
        started = time.perf_counter(), time.process_time()
        scores = score()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
        peak.append(read_status("VmHWM") - before)
    conventions = {}
    if tool == "equivox":
        conventions = {name: equivox_case(reference, prediction, spacing, name)() for name in ("deepmind", "monai")}
    return {"wall_s": wall, "cpu_s": cpu, "peak_mib": max(peak), "scores": scores, "conventions": conventions}


def equivox_case(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], hd95: str = "directed_max"
) -> Callable[[], dict[str, Any]]:
    from equivox.metrics.masks.case_scores import score_case

    options: Any = {"classes": {"it": 1}, "spacing_mm": spacing, "tolerance_mm": TOLERANCE_MM, "hd95": hd95}

    def score() -> dict[str, Any]:
        (it,) = score_case(reference, prediction, **options)
        return {
            "dice": it.scores["dice"],
            "iou": it.scores["iou"],
            "nsd": it.scores["nsd"],
            "hd95_mm": it.scores["hd95"],
            "assd_mm": it.scores["assd"],
        }

    return score


def surface_distance_case(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]
) -> Callable[[], dict[str, float]]:
    import surface_distance as peer

    truth, guess = reference.astype(bool), prediction.astype(bool)

    def score() -> dict[str, float]:
        table = peer.compute_surface_distances(truth, guess, spacing)
        dice = peer.compute_dice_coefficient(truth, guess)
        return {
            "dice": float(dice),
            "iou": float(dice / (2 - dice)),
            "nsd": float(peer.compute_surface_dice_at_tolerance(table, TOLERANCE_MM)),
            "hd95_mm": float(peer.compute_robust_hausdorff(table, 95)),
            "assd_mm": pooled_mean(peer.compute_average_surface_distance(table), table),
        }

    return score


def pooled_mean(directed: tuple[float, float], table: dict[str, np.ndarray]) -> float:
    """Return the mean over both surfaces from surface-distance's two directed means."""
    areas = table["surfel_areas_gt"].sum(), table["surfel_areas_pred"].sum()
    return float((directed[0] * areas[0] + directed[1] * areas[1]) / (areas[0] + areas[1]))


def monai_case(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> Callable[[], Any]:
    import torch
    from monai import metrics as peer

    torch.set_num_threads(1)
    pair = [torch.from_numpy(mask.astype(bool))[None, None] for mask in (prediction, reference)]
    place: dict[str, Any] = {"include_background": True, "spacing": list(spacing)}

    def score() -> dict[str, float]:
        return {
            "dice": float(peer.compute_dice(*pair)),
            "iou": float(peer.compute_iou(*pair)),
            "nsd": float(
                peer.compute_surface_dice(*pair, class_thresholds=[TOLERANCE_MM], use_subvoxels=True, **place)
            ),
            "hd95_mm": float(peer.compute_hausdorff_distance(*pair, percentile=95, **place)),
            "assd_mm": float(peer.compute_average_surface_distance(*pair, symmetric=True, **place)),
        }

    return score


def start_peak() -> float:
    """Forget the process's peak of memory where the system can, and return what it holds now, in MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("the peak of memory is that of the whole process", file=sys.stderr)
    return read_status("VmRSS")


def read_status(key: str) -> float:
    """Return an entry of /proc/self/status in MiB; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":")), 0.0)


# Accuracy ------------------------------------------------------------------------------------------------------------


def accuracy(repeats: int) -> list[dict[str, Any]]:
    """Return the mean absolute errors of HD95 and ASSD by kind of phantom and spacing."""
    warnings.simplefilter("ignore")
    generator = np.random.default_rng(0)
    rows = []
    for name, make in {"balls": balls, "shells": shells, "shifted balls": shifted_balls}.items():
        for spacing in SPACINGS:
            errors: dict[str, list[Scores]] = {tool: [] for tool in TOOLS}
            for reference, prediction, truth in make(spacing, repeats, generator):
                for tool, (hd95_mm, assd_mm) in distances(reference, prediction, spacing).items():
                    errors[tool].append((abs(hd95_mm - truth[0]), abs(assd_mm - truth[1])))
            rows.append({"phantom": name, "spacing_mm": spacing} | summary(errors))
    return rows


def summary(errors: dict[str, list[Scores]]) -> dict[str, Any]:
    """Return the means by tool, and how often ours is not above the better of the two others."""
    values = {tool: np.array(pairs) for tool, pairs in errors.items()}
    better = np.minimum(values["surface-distance"], values["monai"])
    wins = (values["equivox"] <= better + 1e-9).sum(axis=0)
    means = {
        tool: dict(zip(("hd95_mm", "assd_mm"), v.mean(axis=0).tolist(), strict=True)) for tool, v in values.items()
    }
    return {"phantoms": len(better), "not_above_better": {"hd95": int(wins[0]), "assd": int(wins[1])}, **means}


def distances(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> dict[str, Scores]:
    """Return HD95 and ASSD by tool."""
    makers = {"equivox": equivox_case, "surface-distance": surface_distance_case, "monai": monai_case}
    masks = reference.astype(np.uint8), prediction.astype(np.uint8)
    found = {tool: make(*masks, spacing)() for tool, make in makers.items()}
    return {tool: (scores["hd95_mm"], scores["assd_mm"]) for tool, scores in found.items()}


def grid(radius_mm: float, spacing: tuple[float, ...], generator: np.random.Generator) -> list[np.ndarray]:
    """Return coordinates in mm, from a middle anywhere within a voxel, that reach beyond the radius."""
    axes = []
    for side in spacing:
        half = int(np.ceil(radius_mm / side)) + 3
        axes.append((np.arange(-half, half + 1) + generator.uniform(-0.5, 0.5)) * side)
    return list(np.meshgrid(*axes, indexing="ij"))


def length(coordinates: list[np.ndarray], shift: np.ndarray | None = None) -> np.ndarray:
    """Return the distance of each voxel from the middle, or from a place beside it."""
    offset = np.zeros(3) if shift is None else shift
    squares = [(axis - step) ** 2 for axis, step in zip(coordinates, offset, strict=True)]
    return np.asarray(np.sqrt(np.sum(squares, axis=0)))


Phantoms = Iterator[tuple[np.ndarray, np.ndarray, Scores]]


def balls(spacing: tuple[float, ...], repeats: int, generator: np.random.Generator) -> Phantoms:
    """Yield concentric balls: every distance is the difference of the radii."""
    for _ in range(repeats):
        radius, gap = generator.uniform(6, 16) * max(spacing) ** 0.5, generator.uniform(0.3, 4)
        away = length(grid(radius + gap, spacing, generator))
        yield away <= radius, away <= radius + gap, (gap, gap)


def shells(spacing: tuple[float, ...], repeats: int, generator: np.random.Generator) -> Phantoms:
    """Yield concentric shells whose inner surfaces lie closer together than their outer ones."""
    for _ in range(repeats):
        outer = generator.uniform(8, 16) * max(spacing) ** 0.5
        inner, gap = outer * generator.uniform(0.3, 0.6), generator.uniform(0.5, 3)
        inner_gap = gap * generator.uniform(0, 0.9)
        away = length(grid(outer + gap, spacing, generator))
        reference = (away >= inner) & (away <= outer)
        prediction = (away >= inner + inner_gap) & (away <= outer + gap)
        # More than 5 % of either shell's area lies outside, so that HD95 is the gap there.
        areas = inner**2 + (inner + inner_gap) ** 2, outer**2 + (outer + gap) ** 2
        yield reference, prediction, (gap, (areas[0] * inner_gap + areas[1] * gap) / sum(areas))


def shifted_balls(spacing: tuple[float, ...], repeats: int, generator: np.random.Generator) -> Phantoms:
    """Yield two balls side by side that overlap: distances from 0 up, known for every direction."""
    cosine = (np.arange(200_000) + 0.5) / 100_000 - 1  # even steps of it are even areas of a sphere
    for _ in range(repeats):
        radius = generator.uniform(3, 14) * max(spacing) ** 0.5
        other, step = radius * generator.uniform(0.9, 1.2), radius * generator.uniform(0.2, 0.8)
        direction = generator.normal(size=3)
        coordinates = grid(other + step, spacing, generator)
        moved = length(coordinates, direction * step / np.linalg.norm(direction))
        forth = np.abs(np.sqrt(radius**2 + step**2 + 2 * radius * step * cosine) - other)
        back = np.abs(np.sqrt(other**2 + step**2 + 2 * other * step * cosine) - radius)
        hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
        assd = (forth.mean() * radius**2 + back.mean() * other**2) / (radius**2 + other**2)
        yield length(coordinates) <= radius, moved <= other, (float(hd95), float(assd))


# Report --------------------------------------------------------------------------------------------------------------


def report(result: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    parts = [f"# Metrics of one case\n\n{machine_line(result['machine'])}\n"]
    parts.append("## Dice, IoU, HD95, ASSD and NSD of one case, one thread\n")
    parts.append(speed_table(result["speed"]))
    parts.append("## The same masks, every tool's numbers\n")
    parts.append(agreement_table(result["speed"]))
    parts.append("## Error against the analytic distance, mean of the absolute values in mm\n")
    parts.append(accuracy_table(result["accuracy"]))
    return "\n".join(parts)


def speed_table(cases: dict[str, Any]) -> str:
    lines = [header("case", "tool", "wall s (range)", "CPU s (range)", "CPU against ours (range)", "peak MiB")]
    for case, rows in cases.items():
        ours = np.array(rows["equivox"]["cpu_s"])
        for tool, row in rows.items():
            cpu = np.array(row["cpu_s"])
            low, high = cpu.min() / ours.max(), cpu.max() / ours.min()
            ratio = f"{np.median(cpu) / np.median(ours):.1f} ({low:.1f}-{high:.1f})"
            cells = [case, tool, spread(row["wall_s"]), spread(row["cpu_s"]), ratio, f"{row['peak_mib']:.0f}"]
            lines.append(line(*cells))
    return "\n".join(lines) + "\n"


def agreement_table(cases: dict[str, Any]) -> str:
    lines = [header("case", "tool", "Dice", "IoU", "NSD", "HD95 mm", "ASSD mm")]
    for case, rows in cases.items():
        numbers = {tool: row["scores"] for tool, row in rows.items()}
        numbers |= {f'equivox, hd95="{name}"': scores for name, scores in rows["equivox"]["conventions"].items()}
        for tool, scores in sorted(numbers.items()):
            values = (f"{scores[key]:.6f}" for key in ("dice", "iou", "nsd", "hd95_mm", "assd_mm"))
            lines.append(line(case, tool, *values))
    return "\n".join(lines) + "\n"


def accuracy_table(rows: list[dict[str, Any]]) -> str:
    named = [f"{metric} {tool}" for metric in ("HD95", "ASSD") for tool in TOOLS]
    lines = [header("phantom", "spacing mm", "n", *named, "ours not above the better one")]
    for row in rows:
        errors = [f"{row[tool][key]:.3f}" for key in ("hd95_mm", "assd_mm") for tool in TOOLS]
        won = row["not_above_better"]
        spacing = " x ".join(f"{side:g}" for side in row["spacing_mm"])
        last = f"HD95 {won['hd95']}, ASSD {won['assd']}"
        lines.append(line(row["phantom"], spacing, str(row["phantoms"]), *errors, last))
    return "\n".join(lines) + "\n"


def header(*cells: str) -> str:
    return line(*cells) + "\n" + "|---" * len(cells) + "|"


def line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def spread(values: list[float]) -> str:
    """Return median and range."""
    return f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()
