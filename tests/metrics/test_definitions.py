from dataclasses import fields

from equivox.metrics.definitions import METRICS
from equivox.metrics.masks.case_scores import ClassScores


def test_every_score_of_a_case_is_defined() -> None:
    other = {"class_name", "outcome", "reference_voxels", "prediction_voxels", "penalised"}
    scores = {field.name.removesuffix("_mm").removesuffix("_mm3") for field in fields(ClassScores)} - other
    assert scores == set(METRICS)


def test_titles_and_formulas_are_plain_sentences() -> None:
    for definition in METRICS.values():
        assert definition.title
        assert definition.formula.endswith(".")
        assert "\\" not in definition.formula
