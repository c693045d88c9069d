"""What the report says of its methods."""

from typing import Any

import pytest

from equivox.metrics.masks.surface import HD95_CONVENTIONS, HD95Convention
from equivox.pipelines.evaluation.methods import describe_methods
from equivox.pipelines.evaluation.options import EvaluateOptions


@pytest.mark.parametrize("convention", HD95_CONVENTIONS)
def test_the_convention_of_hd95_stands_in_words_with_its_source(convention: HD95Convention) -> None:
    tables: list[dict[str, Any]] = [{"role": "all", "simulated": {"coverage": None, "size": None, "repeats": 300}}]
    words = describe_methods(EvaluateOptions(hd95=convention), {"hd95": "mm"}, tables, [])["hd95"]
    assert f"convention '{convention}': Distances " in words
    assert HD95_CONVENTIONS[convention] in words
    assert "Huttenlocher et al., IEEE TPAMI 1993" in words
