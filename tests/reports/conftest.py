"""A made-up evaluation with all that a summary can hold, to render reports from."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from equivox.definitions import METRICS
from equivox.reports import OverlayCase

CLASSES = ("edema", "enhancing tumour", "necrosis")
ATTRIBUTES = {
    "sex": (("female", "male"), (0.5, 0.49), "no_evidence"),
    "age": (("<40", "40-65", ">=65"), (0.25, 0.45, 0.29), "difference"),
    "site": (("Aachen", "Bergen", "Cork", "Delft"), (0.4, 0.3, 0.25, 0.05), "cannot_say"),
    "scanner": (("1.5 T", "3 T"), (0.5, 0.5), "ruled_out"),
}


@dataclass
class Example:
    """The arguments of `write_report`."""

    summary: dict[str, Any]
    cases: pd.DataFrame
    groups: pd.DataFrame
    overlays: list[OverlayCase] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        return {"summary": self.summary, "cases": self.cases, "groups": self.groups, "overlays": self.overlays}


def make_example(
    patients: int = 120,
    *,
    voxels: bool = False,
    classes: tuple[str, ...] = CLASSES,
    attributes: dict[str, tuple[tuple[str, ...], tuple[float, ...], str]] | None = None,
    case_names: Callable[[int], str] = lambda number: f"case_{number:03d}",
    name: str = "Gliomas of five hospitals",
    overlays: bool = True,
    seed: int = 0,
) -> Example:
    """Return an evaluation of made-up scores: one of five patients has two scans, and some structures are empty."""
    attributes = ATTRIBUTES if attributes is None else attributes
    rng = np.random.default_rng(seed)
    cases = _cases(rng, patients, voxels, classes, attributes, case_names)
    units = ("voxels", "voxels") if voxels else ("mm", "ml")
    settings = {
        "primary_endpoint": "dice",
        "margin": 0.05,
        "tolerance": 2.0,
        "distance_unit": units[0],
        "volume_unit": units[1],
        "empty_policy": "penalise",
        "bootstrap_draws": 4999,
        "permutation_draws": 9999,
        "seed": 0,
        "confidence": 0.95,
        "minimum_group": 10,
        "failure_threshold": 0.5,
        "hd95": "directed_max",
    }
    tables = [
        _table(cases[cases["role"] == role], role, role == "test", attributes, classes, units)
        for role in ("test", "out_of_fold")
    ]
    summary = {
        "schema_version": 1,
        "equivox_version": "0.1.0",
        "created": "2026-11-23T12:00:00+00:00",
        "cohort": {
            "name": name,
            "classes": list(classes),
            "patients": int(cases["patient_id"].nunique()),
            "cases": int(cases["case_id"].nunique()),
            "nominal_spacing": voxels,
        },
        "model": {"name": "unetpp", "run": "runs/gliomas"},
        "settings": settings,
        "metrics": {key: asdict(METRICS[key]) | {"unit": ""} for key in tables[0]["overall"]},
        "tables": tables,
        "left_out": {
            "excluded_cases": [{"case_id": "case_901", "reason": "label value 7 is no class"}],
            "missing_predictions": ["case_902", "case_903"],
            "extra_predictions": [],
            "both_empty": {
                one: int(((cases["class"] == one) & (cases["outcome"] == "both_empty")).sum()) for one in classes
            },
            "missed": {one: int(((cases["class"] == one) & (cases["outcome"] == "missed")).sum()) for one in classes},
            "false_positive": dict.fromkeys(classes, 1),
            "repairs": [{"case_id": "case_004", "repair": "the sform was not orthonormal; the qform was used"}],
            "unknown_group": {
                one: int(cases.drop_duplicates("patient_id")[f"attribute:{one}"].isna().sum()) for one in attributes
            },
        },
        "methods": {
            "unit": "The patient is the unit: scores are averaged over classes, then over a patient's cases.",
            "intervals": "Bootstrap-t over patients.",
            "tests": {"contrasts": "Studentised permutation, maximum statistic.", "draws": 9999, "adjusted": None},
            "references": ["Tian et al., FairSeg, ICLR 2024", "Efron, Annals of Statistics 1979"],
        },
    }
    shown = _overlays(rng, cases, classes) if overlays else []
    return Example(summary, cases, _groups(tables), shown)


def _cases(rng, patients, voxels, classes, attributes, case_names) -> pd.DataFrame:
    rows = []
    number = 0
    for patient in range(patients):
        groups = {}
        for attribute, (names, shares, _) in attributes.items():
            weights = np.array([*shares, max(0.0, 1 - sum(shares))])
            drawn = rng.choice(len(weights), p=weights / weights.sum())
            groups[f"attribute:{attribute}"] = names[drawn] if drawn < len(names) else None
        harder = 0.09 if groups.get("attribute:age") == ">=65" else 0.0
        own = rng.normal(0, 0.05)
        for _ in range(2 if patient % 5 == 1 else 1):
            role = "test" if patient % 5 < 3 else "out_of_fold"
            for place, one in enumerate(classes):
                volume = float(np.exp(rng.normal(2.6 - place, 0.9)))
                score = float(
                    np.clip(
                        0.84 - harder - 0.04 * place + own + 0.03 * np.log(volume / 12) + rng.normal(0, 0.06), 0, 0.98
                    )
                )
                rows.append(_row(rng, case_names(number), f"p{patient:04d}", role, one, score, volume, voxels) | groups)
            number += 1
    return pd.DataFrame(rows)


def _row(rng, case, patient, role, one, dice, volume, voxels) -> dict[str, Any]:
    chance = rng.random()
    outcome = "both_empty" if chance < 0.06 else "missed" if chance < 0.09 else "scored"
    volume = 0.0 if outcome == "both_empty" else volume
    predicted = volume * float(rng.normal(0.97, 0.12)) if outcome == "scored" else 0.0
    scored = {"both_empty": (None,) * 5, "missed": (0.0, 0.0, 0.0, 240.0, 240.0)}.get(
        outcome, (dice, dice / (2 - dice), min(1.0, dice + 0.05), 30 * (1 - dice) + 1, 8 * (1 - dice))
    )
    distance, size, factor = ("voxels", "voxels", 1000) if voxels else ("mm", "ml", 1)
    row = {
        "case_id": case,
        "patient_id": patient,
        "role": role,
        "class": one,
        "outcome": outcome,
        "penalised": outcome == "missed",
    }
    row |= dict(zip(("dice", "iou", "nsd", f"hd95_{distance}", f"assd_{distance}"), scored, strict=True))
    error = None if outcome == "both_empty" else (predicted - volume) * factor
    row |= {
        f"volume_error_{size}": error,
        f"reference_{size}": volume * factor,
        f"prediction_{size}": predicted * factor,
    }
    return row | {"reference_voxels": int(volume * 1000), "prediction_voxels": int(predicted * 1000)}


def _spread_of(values: np.ndarray, small: bool) -> dict[str, Any]:
    if not len(values):
        return dict.fromkeys(("mean", "low", "high", "median", "worst_decile"))
    half = 1.96 * values.std() / np.sqrt(len(values)) if not small else None
    mean = float(values.mean())
    return {
        "mean": mean,
        "low": None if half is None else mean - float(half),
        "high": None if half is None else mean + float(half),
        "median": float(np.median(values)),
        "worst_decile": float(np.quantile(values, 0.1)),
    }


def _per_patient(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    values = rows.assign(value=pd.to_numeric(rows[column])).dropna(subset="value")
    return values.groupby(["patient_id", "case_id"])["value"].mean().groupby("patient_id").mean()


def _metric(rows: pd.DataFrame, metric: str, units: tuple[str, str]) -> dict[str, Any]:
    unit = {"hd95": units[0], "assd": units[0], "volume_error": units[1]}.get(metric, "")
    column = f"{metric}_{unit}" if unit else metric
    values = _per_patient(rows, column).to_numpy()
    used = rows[rows[column].notna()]
    return {
        "unit": unit or "fraction",
        **_spread_of(values, len(values) < 10),
        "patients": len(values),
        "cases_used": int(used["case_id"].nunique()),
        "cases_both_empty": int(rows[rows["outcome"] == "both_empty"]["case_id"].nunique()),
        "cases_penalised": int(rows[rows["outcome"] == "missed"]["case_id"].nunique()),
    }


def _table(rows, role, headline, attributes, classes, units) -> dict[str, Any]:
    metrics = ("dice", "iou", "nsd", "hd95", "assd", "volume_error")
    patients = _per_patient(rows, "dice")
    failed = int((patients < 0.5).sum())
    by_class = {}
    for one in classes:
        part = rows[rows["class"] == one]
        present = int((part["reference_voxels"] > 0).sum())
        by_class[one] = {
            "metrics": {metric: _metric(part, metric, units) for metric in metrics},
            "presence": {"sensitivity": 0.97, "specificity": None, "present": present, "absent": len(part) - present},
        }
    return {
        "role": role,
        "headline": headline,
        "patients": int(rows["patient_id"].nunique()),
        "cases": int(rows["case_id"].nunique()),
        "overall": {metric: _metric(rows, metric, units) for metric in metrics},
        "failure_rate": {
            "value": failed / max(1, len(patients)),
            "low": 0.01,
            "high": 0.09,
            "failed": failed,
            "patients": len(patients),
        },
        "by_class": by_class,
        "attributes": [_attribute(rows, patients, name, *spec) for name, spec in attributes.items()],
        "intersections": [_intersection(rows, patients, *list(attributes)[:2])] if len(attributes) > 1 else [],
    }


def _group(rows: pd.DataFrame, patients: "pd.Series[float]", members: pd.Index, name: str) -> dict[str, Any]:
    values = patients[patients.index.isin(members)].to_numpy()
    own = rows[rows["patient_id"].isin(members)]
    return {
        "name": name,
        "patients": len(values),
        "cases": int(own["case_id"].nunique()),
        **_spread_of(values, len(values) < 10),
        "missed": int((own["outcome"] == "missed").sum()),
        "failure_rate": float((values < 0.5).mean()) if len(values) else None,
        "small": len(values) < 10,
        "shrunk": {"mean": 0.8, "weight": 0.4, "towards": 0.79, "between_sd": 0.03} if len(values) else None,
    }


def _members(rows: pd.DataFrame, **groups: str) -> pd.Index:
    kept = rows
    for name, value in groups.items():
        kept = kept[kept[f"attribute:{name}"] == value]
    return pd.Index(kept["patient_id"].unique())


def _attribute(rows, patients, name, names, shares, answer) -> dict[str, Any]:
    groups = [_group(rows, patients, _members(rows, **{name: one}), one) for one in names]
    contrasts = []
    for group in groups:
        inside = patients.index.isin(_members(rows, **{name: group["name"]}))
        if group["small"] or (~inside).sum() < 10:
            continue
        difference = float(patients[inside].mean() - patients[~inside].mean())
        half = 2.6 * float(np.hypot(patients[inside].sem(), patients[~inside].sem()))
        contrasts.append(
            {
                "group": group["name"],
                "difference": difference,
                "low": difference - half,
                "high": difference + half,
                "p_adjusted": float(np.clip(2.2 * np.exp(-3.0 * abs(difference) / half * 2), 0.0002, 1)),
                "detectable_gap": 1.3 * half,
            }
        )
    chosen = min(contrasts, key=lambda one: one["difference"], default=None)
    keys = ("group", "difference", "low", "high", "p_adjusted", "detectable_gap")
    told = {key: None if chosen is None else chosen[key] for key in keys}
    span = "(simultaneous 95 % interval {low:+.2f} to {high:+.2f}, adjusted p = .042)"
    words = {
        "difference": f"Evidence of a difference: '{{group}}' scores {{size:.2f}} lower than the rest {span}.",
        "ruled_out": "A difference larger than 0.05 is ruled out: every group's difference lies inside -0.05 to 0.05.",
        "no_evidence": (
            f"No evidence of a difference: '{{group}}' scores {{size:.2f}} lower than the rest {span}. The smallest "
            "gap we could have seen is {detectable_gap:.2f}; a smaller one may be there."
        ),
        "cannot_say": "Cannot say: fewer than 10 patients in 'Delft' (4). About 30 of it would be needed.",
    }
    sentence = (
        words[answer].format(size=abs(told["difference"]), **told)
        if chosen
        else "Cannot say: only one group has patients."
    )
    means = [group["mean"] for group in groups if group["mean"] is not None]
    gap = max(means) - min(means) if means else 0.0
    measure = {"value": gap, "permutation_mean": gap * 0.6, "excess": gap * 0.4}
    scaled = {"value": 0.8 / (1 + gap), "permutation_mean": 0.8 / (1 + gap * 0.6), "excess": -0.01}
    return {
        "name": name,
        "kind": "categorical",
        "unknown_patients": int(rows.drop_duplicates("patient_id")[f"attribute:{name}"].isna().sum()),
        "groups": groups,
        "verdict": {
            "answer": answer if chosen else "cannot_say",
            "sentence": sentence,
            **told,
            "patients_needed": 30 if answer == "cannot_say" else None,
        },
        "contrasts": contrasts,
        "adjusted": [_adjusted(group, contrasts) for group in groups],
        "spread_by_metric": {
            "dice": {"gap": measure, "ratio": scaled, "es_sum": scaled, "worst_group": groups[-1]["name"]},
            "hd95": {"gap": measure, "ratio": scaled, "worst_group": groups[0]["name"]},
        },
        "presence_parity": {
            "edema": {"patient": {"reason": "no reference lacks this class in " + repr(groups[0]["name"])}},
            "necrosis": {
                "patient": {
                    "reason": None,
                    "demographic_parity_difference": measure,
                    "demographic_parity_ratio": scaled,
                    "equalized_odds_difference": measure,
                    "equalized_odds_ratio": None,
                }
            },
        },
        "spread": {
            "gap": measure,
            "ratio": scaled,
            "es_sum": scaled,
            "es_std": scaled,
            "worst_group": groups[-1]["name"],
        }
        if len(means) > 1
        else None,
    }


def _adjusted(group: dict[str, Any], contrasts: list[dict[str, Any]]) -> dict[str, Any]:
    found = next((one for one in contrasts if one["group"] == group["name"]), None)
    result = {"group": group["name"], "covariates": ["volume", "site"], "dropped": {}, "reason": None}
    if found is None:
        reason = "fewer than 10 patients in the group or the rest"
        return result | {"raw": None, "adjusted": None, "low": None, "high": None, "covariates": [], "reason": reason}
    ends = {key: 0.6 * found[key] for key in ("low", "high")}
    dropped = {"slice_thickness": "the same for all patients"}
    return result | {"raw": found["difference"], "adjusted": 0.6 * found["difference"], **ends, "dropped": dropped}


def _intersection(rows, patients, one: str, two: str) -> dict[str, Any]:
    groups: list[dict[str, Any]] = []
    for first in rows[f"attribute:{one}"].dropna().unique():
        for second in rows[f"attribute:{two}"].dropna().unique():
            members = _members(rows, **{one: first, two: second})
            groups.append(_group(rows, patients, members, f"{first} × {second}"))
    return {"name": f"{one} × {two}", "groups": [group for group in groups if group["patients"]]}


def _groups(tables: list[dict[str, Any]]) -> pd.DataFrame:
    flat = []
    for table in tables:
        for attribute in table["attributes"]:
            contrasts = {one["group"]: one for one in attribute["contrasts"]}
            for group in attribute["groups"]:
                one = contrasts.get(group["name"], {})
                row = {"role": table["role"], "attribute": attribute["name"], "kind": "group", "group": group["name"]}
                row |= {key: value for key, value in group.items() if key != "name"}
                row |= {
                    "difference": one.get("difference"),
                    "difference_low": one.get("low"),
                    "difference_high": one.get("high"),
                }
                flat.append(row | {"p_adjusted": one.get("p_adjusted"), "detectable_gap": one.get("detectable_gap")})
        for crossing in table["intersections"]:
            for group in crossing["groups"]:
                row = {
                    "role": table["role"],
                    "attribute": crossing["name"],
                    "kind": "intersection",
                    "group": group["name"],
                }
                flat.append(row | {key: value for key, value in group.items() if key != "name"})
    return pd.DataFrame(flat)


def _overlays(rng, cases: pd.DataFrame, classes: tuple[str, ...]) -> list[OverlayCase]:
    means = cases.assign(dice=pd.to_numeric(cases["dice"])).groupby("case_id")["dice"].mean().dropna().sort_values()
    if not len(means):
        return []
    chosen = {"worst": means.index[0], "median": means.index[len(means) // 2], "best": means.index[-1]}
    modalities = {"worst": "CT", "median": "MR", "best": "PET"}
    return [
        make_overlay(
            rng, str(case), rank, float(means[case]), modalities[rank], {one: k + 1 for k, one in enumerate(classes)}
        )
        for rank, case in chosen.items()
    ]


def make_overlay(rng, case_id: str, rank: Any, dice: float, modality: str, classes: dict[str, int]) -> OverlayCase:
    """Return a ball of tissue with nested structures on a grid of 3 mm slices."""
    shape, spacing = (112, 100, 20), (1.5, 1.8, 6.0)
    grid = np.meshgrid(*[(np.arange(n) - n / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    head = (grid[0] / 80) ** 2 + (grid[1] / 88) ** 2 + (grid[2] / 58) ** 2 < 1
    noise = rng.normal(0, 1, shape)
    image = np.where(head, 60 + 25 * np.sin(grid[0] / 11) * np.cos(grid[1] / 13) + 6 * noise, 2 * np.abs(noise))
    reference, prediction = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for place, index in enumerate(classes.values()):
        for labels, shift in ((reference, 0.0), (prediction, 14 * (1 - dice))):
            wobble = 1 + 0.12 * np.sin(grid[0] / 5 + shift) * np.cos(grid[1] / 4)
            inside = ((grid[0] - 25 - shift) ** 2 + (grid[1] + 12) ** 2 + grid[2] ** 2) * wobble < (30 - 9 * place) ** 2
            labels[inside] = index
    image = image + 30 * (reference > 0) + 25 * (reference > 1)
    if modality == "CT":
        image = np.where(head, image - 20, -1000.0)
    return OverlayCase(
        case_id=case_id,
        rank=rank,
        dice=dice,
        image=image.astype(np.float32),
        reference=reference,
        prediction=prediction,
        spacing_mm=spacing,
        modality=modality,
        orientation="LPS",
        classes=classes,
    )


@pytest.fixture(scope="session")
def example() -> Example:
    return make_example()


@pytest.fixture(scope="session")
def make() -> Callable[..., Example]:
    return make_example


@pytest.fixture(scope="session")
def overlay() -> Callable[..., OverlayCase]:
    return make_overlay


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


# A page around the report, of its own origin, so that it can look inside: the report is its `srcdoc`.
PROBE = """<!doctype html><meta charset="utf-8"><body><script>
const text = REPORT;
const result = {};
const frame = document.createElement("iframe");
frame.style.cssText = "border:0;width:WIDTHpx;height:900px";
const key = (name) => new frame.contentWindow.KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true });
frame.onload = async () => {
  const inner = frame.contentDocument;
  const one = (what) => inner.querySelector(what);
  const all = (what) => Array.from(inner.querySelectorAll(what));
  try {
    result.ready = inner.body.dataset.ready || null;
    result.width = inner.documentElement.clientWidth;
    result.scroll = inner.documentElement.scrollWidth;
    const right = (node) => node.getBoundingClientRect().right;
    const beyond = (node) => right(node) > result.width + 1 && !node.closest(".wide, .hidden, svg");
    result.beyond = all("body *").filter(beyond).map((node) => node.outerHTML.slice(0, 120)).slice(0, 5);
    PROBES
  } catch (error) { result.failed = String(error); }
  result.error = inner.body.dataset.error || null;
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify(result);
  document.body.append(told);
};
frame.srcdoc = text;
document.body.append(frame);
</script>"""


@pytest.fixture(scope="session")
def probe(chromium: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Open a page in a frame of a given width, run lines of script in it, and return what they left in `result`."""

    def run(folder: Path, report: str, width: int, probes: str = "") -> dict[str, Any]:
        text = json.dumps(report).replace("<", "\\u003c")
        page = folder / "probe.html"
        page.write_text(
            PROBE.replace("WIDTH", str(width)).replace("PROBES", probes).replace("REPORT", text), encoding="utf-8"
        )
        dom = chromium(page, "--virtual-time-budget=60000", "--window-size=1400,1000", "--dump-dom")
        found = re.search(r'<pre id="told">(.*?)</pre>', dom, re.DOTALL)
        assert found, "the probe did not finish"
        told: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        return told

    return run


def make_audit(
    *, available: bool = True, erasure: bool = True, shortcuts: bool = True, site: str = "hospital <b>"
) -> dict[str, Any]:
    """Return a made-up `embedding_audit.json`: sex told or not, a site, an age, and an attribute not probed."""
    probes = []
    for pooling in ("mean", "foreground", "mean_sd"):
        probes += [
            _audit_probe("sex", pooling, 0.81 if available else 0.55, q=0.02 if available else 0.4, other_sites=True),
            _audit_probe(site, pooling, 0.97, q=0.02),
            _audit_probe("age", pooling, 0.21, q=0.06, number=True),
            {
                **{
                    "attribute": "race",
                    "layer": "bottleneck",
                    "pooling": pooling,
                    "kind": "groups",
                    "done": False,
                    "patients": 41,
                },
                **{"reason": "fewer than two groups have 10 held-out patients for each network (patients: A 38, B 3)"},
                **{"groups": {"A": 38}, "small_groups": {"B": 3}, "networks": [0, 1], "score_name": "AUROC"},
                **{"second_name": "balanced accuracy", "unstable": False, "score": None, "p": None, "q": None},
                **{"controls": [], "other_sites": None},
            },
        ]
    rng = np.random.default_rng(0)
    patients = [f"p{number:02d}" for number in range(41)]
    groups = {"sex": ["F", "M"], site: ["north", "south", "west"], "age": ["<50", ">=50"], "race": ["A"]}
    components = [
        {"attribute": name, "components": count, "score": 0.5 + count / 100, "low": 0.4, "high": 0.7}
        for name in ("sex", site, "age")
        for count in (2, 5, 10)
    ]
    rows = [
        {
            **{"group": name, "patients": 20, "before": 0.8, "change": -0.05, "random_change": -0.01, "extra": -0.04},
            **{"extra_low": -0.06, "extra_high": -0.02, "difference": 0.01, "difference_low": -0.03},
            **{"difference_high": 0.05, "p": 0.4},
        }
        for name in ("F", "M")
    ]
    link = {
        **{"layer": "bottleneck", "patients": 40, "given": ["lesion volume", site], "partial_spearman": -0.2},
        **{"spearman": -0.31, "spearman_low": -0.55, "spearman_high": -0.02},
        **{"slope": -0.021, "slope_low": -0.04, "slope_high": -0.002, "within": None, "within_low": None},
        "within_high": None,
    }
    links = [{**link, "attribute": "sex", "toward": "M"}, {**link, "attribute": "age", "toward": None}]
    gap = {"difference": 0.02, "difference_low": -0.03, "difference_high": 0.07, "p": 0.5}
    gaps = [{"attribute": "sex", "group": name, "patients": 20, "dice": 0.81, **gap} for name in ("F", "M")]
    score = {
        **{"mean_with": 0.71, "mean_without": 0.8, "raw": -0.09, "compared_with": 12, "compared_without": 25},
        **{"difference": -0.04, "low": -0.08, "high": 0.0, "p": 0.06},
    }
    stratum = {"low": 1200.0, "high": 5400.0, "patients_with": 4, "patients_without": 9}
    stratum |= {f"{name} {side}": 0.75 for name in ("Dice", "lesion recall") for side in ("with", "without")}
    flag = {
        **{"flag": "catheter", "with": "yes", "without": "no", "patients_with": 13, "patients_without": 27},
        **{"reason": "", "strata": [stratum] * 3, "volume_ratio": 1.13},
        "scores": [{"score": name, **score} for name in ("Dice", "lesion recall")],
    }
    left = {"score_name": "AUROC", "left": 0.52, "left_low": 0.4, "left_high": 0.63}
    result = {"attribute": "sex", "directions": 4, **left, "groups": rows}
    return {
        "schema_version": 1,
        "equivox_version": "0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "run": {
            **{"name": "run", "model": "unetpp", "dims": "3d", "layers": {"bottleneck": "network.conv_4_0"}},
            "networks": [{"fold": fold, "weights_sha256": "0" * 64, "held_out_patients": 41} for fold in (0, 1)],
        },
        "cohort": {
            "name": "Livers",
            "nominal_spacing": False,
            "patients": 41,
            "cases": 44,
            "roles": {"test": 44, "out_of_fold": 0, "new": 0},
        },
        "settings": {"site": site, "draws": 1999, "permutations": 200},
        "poolings": ["mean", "foreground", "mean_sd"],
        "attributes": {"sex": "categorical", site: "categorical", "age": "continuous", "race": "categorical"},
        "probes": probes,
        "components": components,
        "scatter": {
            **{"fold": 1, "patients": patients, "x": rng.normal(size=41).tolist(), "y": rng.normal(size=41).tolist()},
            "explained": [0.31, 0.12],
            "groups": {
                name: [None if place == 3 else names[place % len(names)] for place in range(41)]
                for name, names in groups.items()
            },
            "order": groups,
            "silhouette": {"sex": 0.01, site: 0.2, "age": -0.03, "race": None},
        },
        "behaviour": {"links": links, "groups": gaps},
        "shortcuts": {
            "flags": [flag, {**flag, "flag": "clip", "reason": "fewer than 10 patients with a lesion on a side"}],
            "negatives": {"patients": 4, "with_false_detections": 1, "false_detections": 0.5},
        }
        if shortcuts
        else None,
        "erasure": {"directions": [4], "random_sets": 2, "without_reference": 1, "results": [result]}
        if erasure
        else None,
        "energy": {
            "cases": [
                {"case_id": f"c{place:02d}", "patient_id": patient, "role": "test", "percentile": 100 - 2.0 * place}
                for place, patient in enumerate(patients)
            ],
            "reference": ["all held-out cases"],
            "without_rank": 0,
        },
        "left_out": {
            "trained_on": 80,
            "renamed": 3,
            "renamed_told_by": "prepared",
            "unreadable": [{"case_id": "c99", "reason": "c99.nii.gz: expected a scan, got <nothing>; copy it again"}],
            "differing": {"sex": 1},
            "without_foreground": 2,
        },
    }


def _audit_probe(
    attribute: str, pooling: str, score: float, *, q: float, number: bool = False, other_sites: bool = False
) -> dict[str, Any]:
    def ends(value: float) -> dict[str, float]:
        return {"score": value, "low": value - 0.1, "high": min(1.0, value + 0.1)}

    controls = [
        {
            **{"name": name, **ends(other), "difference": score - other},
            **{"difference_low": score - other - 0.12, "difference_high": score - other + 0.12},
        }
        for name, other in (("untrained network", 0.5), ("acquisition", 0.75), ("body size", 0.55))
    ]
    return {
        **{
            "attribute": attribute,
            "layer": "bottleneck",
            "pooling": pooling,
            "kind": "number" if number else "groups",
            "done": True,
        },
        **{"reason": "", "patients": 41, "groups": {} if number else {"F": 20, "M": 21}, "small_groups": {}},
        **{"networks": [0, 1], "score_name": "R2" if number else "AUROC", "unstable": True},
        **{"second_name": "mean absolute error" if number else "balanced accuracy", "chance": 0.0 if number else 0.5},
        **ends(score),
        **{"second": 11.2 if number else 0.7, "second_low": 9.1 if number else 0.6, "p": q / 3, "q": q},
        "second_high": 13.0 if number else 0.8,
        "shuffled": {"mean": 0.0 if number else 0.5, "low": -0.2 if number else 0.4, "high": 0.6},
        "controls": controls,
        "other_sites": {**ends(0.7), "patients": 35} if other_sites else None,
    }


@pytest.fixture(scope="session")
def make_audit_summary() -> Callable[..., dict[str, Any]]:
    return make_audit
