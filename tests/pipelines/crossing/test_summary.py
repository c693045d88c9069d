from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from equivox.datasets.cohort import Cohort, CohortConfig
from equivox.metrics.statistics.cross_site import TrainingPool
from equivox.pipelines.cross_site_config import CrossSiteConfig
from equivox.pipelines.crossing.cells import Cell
from equivox.pipelines.crossing.pools import Model
from equivox.pipelines.crossing.scoring import SCORE_COLUMNS
from equivox.pipelines.crossing.sites import SiteCase, Sites
from equivox.pipelines.crossing.summary import group_table

CONFIG = CohortConfig(name="toy", channels={"mr": {}}, classes={"ball": 1}, label_values={0: "background", 1: "ball"})


def test_a_gap_between_sites_is_none_within_them() -> None:
    # Dice is lower by 0.3 at B, where most patients are men; at each site women and men are served alike.
    rng = np.random.default_rng(3)
    sexes = {"A": "F" * 20 + "M" * 5, "B": "F" * 5 + "M" * 20}
    rows, cases, sex_of = [], [], {}
    for site, sexes_there in sexes.items():
        for number, sex in enumerate(sexes_there):
            patient = f"{site.lower()}{number:02d}"
            sex_of[patient] = sex
            cases.append(SiteCase(f"c-{patient}", patient, site, 1.0, 2.0, "hash"))
            rows.append((patient, site, "dice", 0.8 - 0.3 * (site == "B") + rng.normal(0, 0.05)))
    sites = Sites(
        Cohort(Path("toy"), CONFIG, pd.DataFrame()),
        tuple(cases),
        ("A", "B"),
        (),
        {"ball": 1},
        {},
        {"sex": sex_of},
        {"sex": ("F", "M")},
        in_voxels=False,
    )
    tested = {site: sites.patients(site) for site in sites.names}
    model = Model("pool-fold0", TrainingPool("pool"), 0, None, ("x",), "x", tested)
    cell = Cell(model, pd.DataFrame(rows, columns=list(SCORE_COLUMNS)), {})
    settings = CrossSiteConfig(cohort="toy", minimum_group=5, permutation_draws=999)
    found = {(one["scope"], one["site"], one["group"]): one for one in group_table([cell], sites, settings)}
    whole, within = found["all", None, "F"], found["within", None, "F"]
    # Four fifths of the women are at A and four fifths of the men at B: 0.3 (4/5 - 1/5) = 0.18.
    assert whole["difference"] == pytest.approx(0.18, abs=0.03)
    assert whole["p_adjusted"] == pytest.approx(0.001)
    assert abs(within["difference"]) < 0.04
    assert within["p_adjusted"] > 0.05
    assert within["low"] < 0 < within["high"]
    assert (whole["patients"], within["patients"], found["site", "B", "F"]["patients"]) == (25, 25, 5)
