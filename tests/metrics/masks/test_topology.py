import gudhi
import numpy as np
import pytest

from equivox.errors import InputError
from equivox.metrics.masks.topology import CONNECTIVITIES, betti_number_errors, betti_numbers, check_connectivity


def gudhi_numbers(mask: np.ndarray, connectivity: str) -> tuple[int, ...]:
    """Betti numbers of the sublevel set at 0 of the array that is 0 in the mask and 1 outside."""
    padded = np.pad((~mask).astype(float), 1, constant_values=1.0)
    # Voxels as closed cubes (T-construction), or as points (V-construction).
    given = {"top_dimensional_cells" if connectivity == "full" else "vertices": padded}
    complex_ = gudhi.CubicalComplex(**given)
    complex_.persistence(homology_coeff_field=2, min_persistence=-1.0)
    numbers = complex_.persistent_betti_numbers(0.0, 0.5)
    return (*numbers, 0, 0, 0)[:3]


def hollow(shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(np.zeros(shape, dtype=bool), 1, constant_values=True)


def test_shapes_by_hand() -> None:
    ball = hollow((2, 1, 3))
    assert betti_numbers(ball) == (1, 0, 1)
    ring = hollow((2, 3))
    assert betti_numbers(ring) == (1, 1, 0)
    assert betti_numbers(ring[..., None]) == betti_numbers(np.pad(ring[..., None], 2)) == (1, 1, 0)
    tube = np.repeat(ring[..., None], 5, axis=2)
    assert betti_numbers(tube) == (1, 1, 0)
    # The surface of a tube is a torus once both ends are joined: one piece, two loops, one cavity.
    torus = np.zeros((11, 11, 5), dtype=bool)
    torus[1:10, 1:10, 1:4] = True
    torus[4:7, 4:7] = False
    torus[2:9, 2:9, 2] = False
    torus[3:8, 3:8, 2] = hollow((3, 3))
    assert betti_numbers(torus) == (1, 2, 1)
    two = np.concatenate([ball, np.zeros((1, *ball.shape[1:]), dtype=bool), ball])
    assert betti_numbers(two) == (2, 0, 2)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_the_border_encloses_nothing(connectivity) -> None:
    # A cup that opens to the border, and a mask that fills the array.
    cup = hollow((2, 2, 2))[:, :, :-1]
    assert betti_numbers(cup, connectivity=connectivity) == (1, 0, 0)
    assert betti_numbers(np.ones((3, 4, 2), dtype=bool), connectivity=connectivity) == (1, 0, 0)
    # Background in the corners alone, each closed off by the mask.
    corners = np.ones((3, 3), dtype=bool)
    corners[::2, ::2] = False
    assert betti_numbers(corners, connectivity=connectivity) == (1, 0, 0)


def test_corners_connect_as_the_connectivity_says() -> None:
    pixels = np.eye(2, dtype=bool)
    assert betti_numbers(pixels) == (1, 0, 0)
    assert betti_numbers(pixels, connectivity="face") == (2, 0, 0)
    # A rhombus of four pixels around one: a ring across corners, four pieces across faces.
    rhombus = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    assert betti_numbers(rhombus) == (1, 1, 0)
    assert betti_numbers(rhombus, connectivity="face") == (4, 0, 0)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(5, 4, 7), (6, 9), (4, 1, 5), (1, 1, 1)])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_numbers_are_those_of_a_cubical_complex(connectivity, shape: tuple[int, ...], share: float) -> None:
    generator = np.random.default_rng(int(10 * share) + len(shape))
    for _ in range(5):
        mask = generator.random(shape) < share
        assert betti_numbers(mask, connectivity=connectivity) == gudhi_numbers(mask, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_empty_masks_have_no_features(connectivity) -> None:
    empty, ball = np.zeros((4, 5, 3), dtype=bool), np.pad(hollow((1, 2, 1)), ((1, 0), (1, 0), (0, 0)))
    assert betti_numbers(empty, connectivity=connectivity) == (0, 0, 0)
    assert betti_number_errors(empty, empty, connectivity=connectivity) == (0, 0, 0)
    assert betti_number_errors(ball, empty, connectivity=connectivity) == (1, 0, 1)
    assert betti_number_errors(empty, ball, connectivity=connectivity) == (1, 0, 1)


def test_errors_are_differences_of_numbers_and_not_of_places() -> None:
    truth, guess = np.zeros((2, 5, 11), dtype=bool)
    truth[1:4, 1:4], guess[1:4, 7:10] = hollow((1, 1)), hollow((1, 1))
    assert betti_number_errors(truth, guess) == (0, 0, 0)
    guess[0, 0] = True
    guess[2, 8] = True
    assert betti_number_errors(truth, guess) == betti_number_errors(guess, truth) == (1, 1, 0)


def test_errors_across_faces_differ_where_corners_touch() -> None:
    line, steps = np.zeros((2, 3, 3), dtype=bool)
    line[1], steps[range(3), range(3)] = True, True
    assert betti_number_errors(line, steps) == (0, 0, 0)
    assert betti_number_errors(line, steps, connectivity="face") == (2, 0, 0)


def test_an_unknown_connectivity_is_named() -> None:
    with pytest.raises(InputError, match="connectivity: expected one of full, face, got '26'"):
        check_connectivity("26")
