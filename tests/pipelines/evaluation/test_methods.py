"""What the report says of its methods."""

from typing import Any

import pytest

from equivox.metrics.masks.surface import HD95_CONVENTIONS, HD95Convention
from equivox.pipelines.evaluation.methods import describe_methods
from equivox.pipelines.evaluation.options import EvaluateOptions


def described(options: EvaluateOptions, sizes: tuple[int, ...] = (12, 37)) -> dict[str, Any]:
    table = {
        "role": "all",
        "patients": sum(sizes),
        "attributes": [
            {
                "groups": [{"patients": size} for size in sizes],
                "contrasts": [{"patients": sizes[0], "rest_patients": sum(sizes[1:])}],
            }
        ],
        "simulated": {"coverage": None, "size": None, "repeats": 300},
    }
    return describe_methods(options, {"hd95": "mm"}, [table], [])


@pytest.mark.parametrize("convention", HD95_CONVENTIONS)
def test_the_convention_of_hd95_stands_in_words_with_its_source(convention: HD95Convention) -> None:
    words = described(EvaluateOptions(hd95=convention))["hd95"]
    assert f"convention '{convention}': Distances " in words
    assert HD95_CONVENTIONS[convention] in words
    assert "Huttenlocher et al., IEEE TPAMI 1993" in words


def test_simulated_rows_are_those_next_to_the_numbers_of_patients() -> None:
    printed = described(EvaluateOptions())["simulated_table"]
    # 12, 37 and 49 patients lie between 10, 20, 40 and 100; the test's smaller side of 12 between 10 and 20.
    assert {row["patients"] for row in printed["coverage"]} == {10, 20, 40, 100}
    assert {row["groups"].split(" + ")[0] for row in printed["tests"]} == {"10", "20"}
    assert all(row["wanted"] == 0.95 and "mean, bootstrap-t" in row for row in printed["coverage"])
    assert not any("sites" in row["situation"] for row in printed["tests"])
    within = described(EvaluateOptions(permute_within="site", interval="bca"))["simulated_table"]
    assert any("permuted within sites" in row["situation"] for row in within["tests"])
    assert all("mean, BCa" in row and "mean, bootstrap-t" not in row for row in within["coverage"])


def test_words_follow_the_interval_the_strata_and_what_is_permuted_within() -> None:
    plain = described(EvaluateOptions())
    assert "bootstrap-t interval" in plain["intervals"]
    assert "resampled without strata" in plain["intervals"]
    assert "within" not in plain["contrasts"]
    chosen = described(EvaluateOptions(interval="bca", strata="sex", permute_within="site"))
    assert "BCa" in chosen["intervals"]
    assert "within the groups of 'sex'" in chosen["intervals"]
    assert "permuted 9999 times within the groups of 'site' alone" in chosen["contrasts"]
    assert "share a site with 10 of other groups" in chosen["rule"]
