"""What a loss costs: forward and backward of every loss of the catalog, in time and memory, relative to Dice and CE.

    python benchmarks/losses.py [--losses cldice mip ...] [--rounds 3] [--repeats 5] [--small]

One sample, three classes (background, a tree of vessels, a ball), float32, one thread; the logits are about those of a
half-trained network. Each figure is of a process of its own with the loss's default options; all losses take turns, so
that another program's load falls on all of them. Losses that need a group, centrelines, a teacher or features get
made-up ones, which are not timed, but for the features' network (two convolutions of 8 channels), which is part of
`perceptual`. MONAI's losses are there where it has one of the kind.

The volume has 96 voxels along each axis, and 192 for those losses that take less than two seconds at 96.
`betti_matching` compares a region of 32 voxels at every eighth step: its row is the cost of such a step, an eighth of
it falls on each step. `betti_matching, whole` compares the whole volume.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import RESULTS, describe_machine, machine_line

CLASSES = 3
BASE = "dice_ce"
SIDES = (96, 192)
SLOW_S = 2.0
LONGEST_S = 60.0
"""After so many seconds no repeat is begun."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "betti_matching, whole": ("betti_matching", {"region": None}),
}
PEERS = {"MONAI DiceCELoss": "dice_ce", "MONAI TverskyLoss": "focal_tversky", "MONAI SoftclDiceLoss": "cldice"}


def main() -> None:
    """Measure each loss at each size in turn, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", help="some of the rows; all where not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="small volumes, one round: does it run at all?")
    parser.add_argument("--one", nargs=2, metavar=("LOSS", "SAMPLE"), help="for the processes that this one starts")
    options = parser.parse_args()
    if options.one:
        sys.stdout.write("RESULT " + json.dumps(measure(options.one[0], Path(options.one[1]), options.repeats)) + "\n")
        return
    if options.small:
        options.rounds, options.repeats = 1, 2
    sides = (16, 24) if options.small else SIDES
    names = rows()
    if options.losses:
        unknown = sorted({*options.losses} - {*names})
        if unknown:
            parser.error(f"--losses: expected some of {', '.join(names)}; got {', '.join(unknown)}")
        names = [name for name in names if name in {BASE, *options.losses}]
    found: dict[str, dict[str, list[dict[str, Any] | None]]] = {
        name: {str(side): [] for side in sides} for name in names
    }
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            made = Path(folder) / f"{side}.npz"
            make_sample(made, side)
            for turn in range(options.rounds):
                for name in names:
                    if side != sides[0] and slow(found[name][str(sides[0])]):
                        continue
                    one = in_a_process(name, made, options.repeats)
                    found[name][str(side)].append(one)
                    told = "failed"
                    if one is not None:
                        told = f"{statistics.median(one['processor']):.3f} s, {one['loss_mib']:.0f} MiB"
                    sys.stderr.write(f"{side}^3, round {turn + 1}, {name}: {told}\n")
    report(found, sides, options)


def rows() -> list[str]:
    """Return the losses of the catalog, each followed by its variants and peers."""
    from equivox.losses.catalog import LOSSES

    followers = {variant: name for variant, (name, _) in VARIANTS.items()} | PEERS
    return [row for name in LOSSES for row in (name, *(other for other, of in followers.items() if of == name))]


def slow(turns: list[dict[str, Any] | None]) -> bool:
    """Tell whether a loss is not measured at the larger size: it took too long, or failed, at the smaller one."""
    done = [turn for turn in turns if turn is not None]
    return len(done) < len(turns) or min(statistics.median(turn["processor"]) for turn in done) >= SLOW_S


def in_a_process(name: str, made: Path, repeats: int) -> dict[str, Any] | None:
    """Measure one loss in a process of its own; None where that ended without a result, as without memory."""
    command = [sys.executable, __file__, "--one", name, str(made), "--repeats", str(repeats)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.stderr.write(done.stderr[-2000:] + f"\n{name}: ended with {done.returncode}\n")
        return None
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def measure(name: str, made: Path, repeats: int) -> dict[str, Any]:
    """Return wall and processor seconds of each repeat, the peak memory, and what of it came with the loss, in MiB."""
    import psutil
    import torch

    torch.set_num_threads(1)
    call = peer(name) if name in PEERS else ours(name)
    logits, label, context = sample(made)
    # What is loaded or compiled at the first call belongs to no step.
    corner = (..., *[slice(16)] * 3)
    few = replace(context, skeleton=context.skeleton[corner], teacher=context.teacher[corner])
    step(call, logits.detach()[corner].clone().requires_grad_(), label[corner], few)
    process = psutil.Process()
    before = process.memory_info().rss
    forget_peak()
    wall, processor = [], []
    begun_all = time.perf_counter()
    value = 0.0
    while len(wall) < repeats and (not wall or time.perf_counter() - begun_all < LONGEST_S):
        begun, used = time.perf_counter(), time.process_time()
        value = step(call, logits, label, context)
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    peak = peak_bytes()
    return {
        "value": value,
        "wall": wall,
        "processor": processor,
        "peak_mib": peak / 2**20,
        "loss_mib": (peak - before) / 2**20,
    }


def step(call: Callable[..., Any], logits: Any, label: Any, context: Any) -> float:
    """Compute the loss and its gradient by the logits."""
    logits.grad = None
    loss = call(logits, label, context)
    loss.backward()
    return float(loss.detach())


def ours(name: str) -> Callable[..., Any]:
    """Return the mean over the batch of a loss of the catalog."""
    from equivox.losses.catalog import build_term

    known, options = VARIANTS.get(name, (name, {}))
    heads = build_term(known, options).loss
    return lambda logits, label, context: heads.per_sample([logits], label, context).mean()


def peer(name: str) -> Callable[..., Any]:
    """Return MONAI's loss, over the classes without the background as ours."""
    from monai import losses

    kind = getattr(losses, name.removeprefix("MONAI "))
    loss = kind(include_background=False, to_onehot_y=True, softmax=True)
    return lambda logits, label, _: loss(logits, label[:, None])


def make_sample(path: Path, side: int) -> None:
    """Write logits ``(classes, z, y, x)``, those of a teacher, the label and the tubes round its centrelines."""
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from vessel_continuity import draw_tree

    from equivox.datasets.centreline_tube import centreline_tubes

    random = np.random.default_rng(0)
    label = draw_tree((side,) * 3, (1.0, 1.0, 1.0), random)[1].astype(np.int64)
    axes = np.ogrid[:side, :side, :side]
    squares = sum((axis - side * place) ** 2 for axis, place in zip(axes, (0.3, 0.6, 0.5), strict=True))
    label[squares < (side / 8) ** 2] = 2
    sure = np.stack([4 * gaussian_filter((label == index).astype(np.float32), 1.0) for index in range(CLASSES)])
    noise = np.stack([gaussian_filter(random.standard_normal(label.shape), 1.0) for _ in range(2 * CLASSES)])
    noise /= noise.std()
    logits, teacher = (np.float32(sure + part) for part in (noise[:CLASSES], noise[CLASSES:]))
    np.savez(path, logits=logits, teacher=teacher, label=label, skeleton=centreline_tubes(label))


def sample(path: Path) -> tuple[Any, Any, Any]:
    """Return logits that want a gradient, the label, and a context with everything that a loss may ask for."""
    import numpy as np
    import torch
    from torch import nn

    from equivox.losses.context import CaseContext

    with np.load(path) as stored:
        made = {name: torch.from_numpy(stored[name])[None] for name in stored}
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv3d(8, 8, 3, 2, 1))
    network.requires_grad_(requires_grad=False)
    context = CaseContext(
        case_index=torch.zeros(1, dtype=torch.long),
        group=torch.zeros(1, dtype=torch.long),
        groups=1,
        spacing_mm=(1.0, 1.0, 1.0),
        skeleton=made["skeleton"],
        teacher=made["teacher"],
        features=lambda image: [network(image)],
    )
    return made["logits"].requires_grad_(), made["label"], context


def forget_peak() -> None:
    """Let the peak of the memory begin anew, where the system can."""
    marker = Path("/proc/self/clear_refs")
    if marker.exists():
        marker.write_text("5")


def peak_bytes() -> int:
    """Return the peak of the memory since `forget_peak`; where the system cannot say, that of the process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def report(
    found: dict[str, dict[str, list[dict[str, Any] | None]]], sides: tuple[int, ...], options: argparse.Namespace
) -> None:
    """Print the table and write it with the machine beside it."""
    machine = describe_machine("monai", "topolosses")
    lines = [
        "# What a loss costs",
        "",
        (__doc__ or "").split("\n\n", 2)[2].replace("\n\n", "\r").replace("\n", " ").replace("\r", "\n\n").strip(),
        "",
        f"{options.rounds} rounds of up to {options.repeats} repeats (none is begun after {LONGEST_S:.0f} s). Seconds "
        "are of the processor, which with one thread are those of a clock where nothing else runs: the median over "
        "rounds of a round's median repeat, and the range of these. The ratio is to dice_ce of the "
        "same round: median and range. MiB is the most that the process held above what it held before, logits and "
        f"label included there: the highest round. {machine_line(machine)}.",
    ]
    for side in sides:
        lines += [
            "",
            f"{side} x {side} x {side}:",
            "",
            "| loss | s | range | times dice_ce | range | MiB | times dice_ce |",
            "|---|---|---|---|---|---|---|",
        ]
        base = [turn for turn in found[BASE][str(side)] if turn is not None]
        for name, turns in found.items():
            lines.append(_row(name, turns[str(side)], base))
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if not options.small:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "losses.md").write_text(text, encoding="utf-8")
        stored = {"machine": machine, "results": found}
        (RESULTS / "losses.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def _row(name: str, turns: list[dict[str, Any] | None], base: list[dict[str, Any]]) -> str:
    done = [turn for turn in turns if turn is not None]
    if len(done) < len(turns):
        return f"| {name} | failed | - | - | - | - | - |"
    if not done or len(done) != len(base):
        return f"| {name} | - | - | - | - | - | - |"
    seconds = [statistics.median(turn["processor"]) for turn in done]
    ratios = [own / statistics.median(turn["processor"]) for own, turn in zip(seconds, base, strict=True)]
    memory = max(turn["loss_mib"] for turn in done)
    share = memory / max(turn["loss_mib"] for turn in base)
    return (
        f"| {name} | {statistics.median(seconds):.3g} | {min(seconds):.3g}-{max(seconds):.3g} "
        f"| {statistics.median(ratios):.2f} | {min(ratios):.2f}-{max(ratios):.2f} | {memory:.0f} | {share:.2f} |"
    )


if __name__ == "__main__":
    main()
