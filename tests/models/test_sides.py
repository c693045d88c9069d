import pytest

from equivox.models.sides import require_sides


def test_the_pad_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"net: expected spatial sides divisible by \(4, 8\), got \(5, 16\); pad to \(8, 16\)"
    ):
        require_sides("net", (5, 16), (4, 8))
    require_sides("net", (8, 16), (4, 8))  # the pad that it names fits


def test_a_2d_image_in_a_3d_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected an image of 3 spatial axes, got 2"):
        require_sides("net", (8, 8), (4, 8, 8))
