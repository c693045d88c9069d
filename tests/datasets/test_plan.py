"""The plan's own rules."""

from typing import Any

import pytest

from equivox.datasets.plan import NetworkPlan
from equivox.errors import InputError
from equivox.options import parse_options

SOUND: dict[str, Any] = {
    "dimensions": 2,
    "patch_size": [16, 24],
    "batch_size": 2,
    "features": [4, 8],
    "strides": [[1, 1], [2, 2]],
    "memory_mib": 10,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": [0, 8]}, "must be 1 or more"),
        ({"features": [4, 8, 16]}, "features and strides need one entry a stage each, got 3 and 2"),
        ({"patch_size": [16, 24, 8]}, "need 2 numbers, as the network has 2 dimensions"),
        ({"strides": [[1, 1], [2]]}, "need 2 numbers"),
        ({"batch_size": 0}, "must be 1 or more"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_when_the_plan_is_read(change: dict[str, Any], message: str) -> None:
    assert parse_options(NetworkPlan, SOUND, "plan.yaml").features == (4, 8)
    with pytest.raises(InputError, match=message):
        parse_options(NetworkPlan, SOUND | change, "plan.yaml")
