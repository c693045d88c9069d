import itertools
import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
import torch

from equivox.errors import InputError
from equivox.metrics.masks import surface_search
from equivox.metrics.masks.surface import HD95_CONVENTIONS, check_convention, surface_scores
from equivox.metrics.masks.surface_elements import average_with_neighbours, cell_codes, element_tables, surface_elements
from equivox.metrics.masks.surface_search import SurfaceSearch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
    from surface_distance import lookup_tables

SPACINGS = [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (0.7, 1.3, 2.1), (2.0, 0.5, 0.9)]


def random_masks(shape: tuple[int, ...], seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.random(shape) < share, generator.random(shape) < share


def distances_from_middle(radius_mm: float, spacing_mm: tuple[float, ...], seed: int) -> np.ndarray:
    """Distances from a middle that lies anywhere within a voxel, on a grid that holds a ball of the radius."""
    shape = [2 * math.ceil(radius_mm / side) + 7 for side in spacing_mm]
    offset = np.random.default_rng(seed).uniform(-0.5, 0.5, len(shape))
    lines = [(np.arange(n) - (n - 1) / 2 - o) * side for n, o, side in zip(shape, offset, spacing_mm, strict=True)]
    return np.sqrt(sum(line**2 for line in np.meshgrid(*lines, indexing="ij")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def theirs(one: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, ...]) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return surface_distance.compute_surface_distances(one, other, spacing_mm)


def test_two_pixels_by_hand() -> None:
    # Pixels at (0, 0) and (0, 2) with sides of 2 mm and 3 mm. Each contour is a rhombus: four segments of
    # hypot(2, 3) / 2, one in each corner cell of its pixel. The corners lie at j = -0.5, 0.5 and 1.5, 2.5: those
    # that face each other are 1 pixel = 3 mm apart, the outer ones 2 pixels = 6 mm.
    one, other = np.zeros((2, 1, 3), dtype=bool)
    one[0, 0] = other[0, 2] = True
    scores = surface_scores(one, other, (2.0, 3.0), tolerance_mm=3.0, hd95="deepmind")
    assert scores.nsd == 0.5
    assert scores.hd95_mm == 6.0
    assert scores.assd_mm == pytest.approx(4.5)
    # The middles of the segments lie a quarter of a pixel from the pixel's centre: the facing ones are 1.5 pixels
    # apart, the outer ones 2. Each segment meets one of its own and one of the other kind. Two rounds of averaging:
    # outer (2*6 + 4.5)/3 = 5.5, inner (2*4.5 + 6)/3 = 5, then outer (2*5.5 + 5)/3 = 16/3.
    scores = surface_scores(one, other, (2.0, 3.0), tolerance_mm=2.9)
    assert scores.nsd == 0.0
    assert scores.assd_mm == pytest.approx((4.5 + 6.0) / 2)
    assert scores.hd95_mm == pytest.approx(16 / 3)
    assert surface_scores(one, other, (2.0, 3.0), tolerance_mm=1.0, hd95="monai").hd95_mm == 6.0


def test_one_voxel_has_the_surface_of_an_octahedron() -> None:
    # Eight triangles through the face centres of a box of 1 x 2 x 4 mm: sides of the corner are 0.5, 1, 2 mm, and the
    # area is half the root of (0.5*1)^2 + (0.5*2)^2 + (1*2)^2.
    elements = surface_elements(cell_codes(np.ones((1, 1, 1), dtype=bool)), (1.0, 2.0, 4.0))
    np.testing.assert_allclose(elements.areas_mm, [0.5 * math.sqrt(0.25 + 1 + 4)] * 8)
    # Each centre of gravity lies a sixth of the box from the voxel's centre.
    np.testing.assert_allclose(
        np.abs(elements.centroids_mm - elements.centroids_mm.mean(axis=0)), [[1 / 6, 1 / 3, 2 / 3]] * 8
    )
    # A cube has 12 edges, and each corner cell of the voxel shares a face with three others.
    assert elements.links.shape == (2, 12)


def test_a_cube_has_flat_faces_of_the_right_area() -> None:
    # Inside its faces every element is a rectangle of 2 x 3, 1 x 3 or 1 x 2 mm and lies on the face.
    elements = surface_elements(cell_codes(np.ones((6, 6, 6), dtype=bool)), (1.0, 2.0, 3.0))
    sizes = {round(float(area), 9): int((np.abs(elements.areas_mm - area) < 1e-9).sum()) for area in (6.0, 3.0, 2.0)}
    assert sizes == {6.0: 2 * 25, 3.0: 2 * 25, 2.0: 2 * 25}


@pytest.mark.parametrize("spacing", SPACINGS)
def test_areas_of_all_256_codes_equal_surface_distance(spacing: tuple[float, ...]) -> None:
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    corners = list(itertools.product((0, 1), repeat=3))
    same = [sum(int(kernel[corner]) for bit, corner in enumerate(corners) if code >> bit & 1) for code in range(256)]
    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)[same]
    np.testing.assert_allclose(element_tables(spacing)[0], expected, atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_mask_and_its_complement_have_the_same_surface(spacing: tuple[float, ...]) -> None:
    areas, centroids = element_tables(spacing)
    np.testing.assert_allclose(areas, areas[::-1], atol=1e-12)
    # Four voxels inside and four outside that meet diagonally are the one case where the places differ.
    halves = np.array([code.bit_count() == 4 for code in range(256)])
    np.testing.assert_allclose(centroids[~halves], centroids[::-1][~halves], atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tolerance", [0.0, 0.9, 2.3])
@pytest.mark.parametrize("share", [0.006, 0.1, 0.5])
def test_nsd_and_deepmind_distances_equal_surface_distance(
    spacing: tuple[float, ...], tolerance: float, share: float
) -> None:
    one, other = random_masks((13, 9, 12), 1, share)
    table = theirs(one, other, spacing)
    ours = surface_scores(one, other, spacing, tolerance_mm=tolerance, hd95="deepmind")
    assert ours.nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(table, tolerance), abs=1e-12)
    assert ours.hd95_mm == pytest.approx(surface_distance.compute_robust_hausdorff(table, 95), rel=1e-6)
    total = sum(
        (table[f"distances_{way}"] * table[f"surfel_areas_{whose}"]).sum()
        for way, whose in (("gt_to_pred", "gt"), ("pred_to_gt", "pred"))
    )
    assert ours.assd_mm == pytest.approx(total / (table["surfel_areas_gt"].sum() + table["surfel_areas_pred"].sum()))
    # NSD does not depend on the convention of the distances, although it is found in another way there.
    for convention in HD95_CONVENTIONS:
        assert surface_scores(one, other, spacing, tolerance_mm=tolerance, hd95=convention).nsd == pytest.approx(
            ours.nsd
        )


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.6, 2.2)])
def test_nsd_of_contours_equals_surface_distance(spacing: tuple[float, float]) -> None:
    one, other = random_masks((17, 11), 2, 0.3)
    table = theirs(one, other, spacing)
    ours = surface_scores(one, other, spacing, tolerance_mm=1.0, hd95="deepmind")
    assert ours.nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(table, 1.0), abs=1e-12)
    assert ours.hd95_mm == pytest.approx(surface_distance.compute_robust_hausdorff(table, 95), rel=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("spacing", SPACINGS)
def test_monai_convention_equals_monai(spacing: tuple[float, ...]) -> None:
    one, other = random_masks((11, 14, 9), 3, 0.05)
    pair = [torch.from_numpy(mask)[None, None] for mask in (one, other)]
    ours = surface_scores(one, other, spacing, tolerance_mm=1.1, hd95="monai")
    options = {"include_background": True, "spacing": list(spacing)}
    assert ours.hd95_mm == pytest.approx(float(compute_hausdorff_distance(*pair, percentile=95, **options)), rel=1e-5)
    assert ours.assd_mm == pytest.approx(
        float(compute_average_surface_distance(*pair, symmetric=True, **options)), rel=1e-5
    )
    # MONAI's NSD with sub-voxels is the same as that of surface-distance.
    nsd = compute_surface_dice(*pair, class_thresholds=[1.1], use_subvoxels=True, **options)
    assert ours.nsd == pytest.approx(float(nsd), abs=1e-6)


def test_medpy_convention_pools_both_directions_by_hand() -> None:
    # 19 and 1 pixels in a row of one pixel's height; the single one lies 4 beyond the row's end.
    # Distances: row -> single 4, 5, ..., 22; single -> row 4. Pooled and sorted: 4, 4, 5, ..., 22;
    # the 95th percentile of 20 values lies at position 18.05: 21 + 0.05.
    row, single = np.zeros((2, 1, 23), dtype=bool)
    row[0, :19] = single[0, 22] = True
    assert surface_scores(row, single, (1.0, 1.0), tolerance_mm=1.0, hd95="medpy").hd95_mm == pytest.approx(21.05)
    # Directed: 4 ... 22 has its 95th percentile at position 17.1.
    assert surface_scores(row, single, (1.0, 1.0), tolerance_mm=1.0, hd95="monai").hd95_mm == pytest.approx(21.1)


@pytest.mark.parametrize("convention", HD95_CONVENTIONS)
def test_identical_masks_have_no_distance(convention) -> None:
    mask, _ = random_masks((8, 7, 5), 4, 0.4)
    scores = surface_scores(mask, mask, (1.0, 2.0, 3.0), tolerance_mm=0.0, hd95=convention)
    assert (scores.nsd, scores.hd95_mm, scores.assd_mm) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("convention", HD95_CONVENTIONS)
def test_turning_and_swapping_the_masks_changes_nothing(convention) -> None:
    one, other = random_masks((9, 8, 7), 5, 0.2)
    expected = surface_scores(one, other, (1.0, 2.0, 3.0), tolerance_mm=1.5, hd95=convention)
    turned = surface_scores(
        other[::-1].transpose(2, 0, 1), one[::-1].transpose(2, 0, 1), (3.0, 1.0, 2.0), tolerance_mm=1.5, hd95=convention
    )
    assert turned.nsd == pytest.approx(expected.nsd)
    assert turned.hd95_mm == pytest.approx(expected.hd95_mm, rel=1e-5)
    assert turned.assd_mm == pytest.approx(expected.assd_mm, rel=1e-5)


def test_empty_space_around_the_masks_changes_nothing_and_the_border_is_a_surface() -> None:
    one, other = random_masks((6, 5, 7), 6, 0.5)
    one[:], other[1:-1] = True, True
    expected = surface_scores(one, other, (1.0, 1.0, 2.5), tolerance_mm=0.5)
    padded = surface_scores(np.pad(one, 3), np.pad(other, 3), (1.0, 1.0, 2.5), tolerance_mm=0.5)
    assert astuple(padded) == pytest.approx(astuple(expected))


def test_a_shift_of_a_large_cube_is_the_distance_of_its_faces() -> None:
    # Shifted by 4 voxels of 1.5 mm along j. The two faces across j lie 6 mm from the other cube; along the four other
    # faces only the 4 outermost rows of 30 are farther than 0.
    one, other = np.zeros((2, 34, 40, 34), dtype=bool)
    one[2:32, 3:33, 2:32] = True
    other[2:32, 7:37, 2:32] = True
    for convention in HD95_CONVENTIONS:
        hd95_mm = surface_scores(one, other, (1.0, 1.5, 1.0), tolerance_mm=1.0, hd95=convention).hd95_mm
        assert hd95_mm == pytest.approx(6.0, rel=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 2.5)])
def test_concentric_balls_are_measured_better_than_by_monai_and_surface_distance(spacing: tuple[float, ...]) -> None:
    # Everywhere the surfaces lie as far apart as the radii differ. The mean error is over several gaps and places of
    # the middle, as a single gap can happen to be one of the few distances that a lattice has.
    gaps_mm = (0.6, 1.0, 1.3, 1.8, 2.5, 3.1)
    errors: dict[str, list[tuple[float, float]]] = {}
    for seed, gap_mm in enumerate(gaps_mm):
        distance = distances_from_middle(12.0 + gap_mm, spacing, seed)
        for convention in ("directed_max", "monai", "deepmind"):
            scores = surface_scores(
                distance <= 12.0, distance <= 12.0 + gap_mm, spacing, tolerance_mm=1.0, hd95=convention
            )
            errors.setdefault(convention, []).append((abs(scores.hd95_mm - gap_mm), abs(scores.assd_mm - gap_mm)))
    hd95, assd = np.mean(errors["directed_max"], axis=0)
    for peer in ("monai", "deepmind"):
        peer_hd95, peer_assd = np.mean(errors[peer], axis=0)
        assert hd95 < 0.9 * peer_hd95
        assert assd < 0.6 * peer_assd
    assert assd < 0.1 * max(spacing)


def test_rough_surfaces_are_as_far_apart_in_coarse_voxels_as_in_fine_ones() -> None:
    # The same two bumpy bodies in voxels of 0.9 x 0.9 x 2 mm and in voxels a third as large, where all tools come near
    # the truth. Distances between the corners of coarse voxels are far too small.
    def bodies(refined: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        spacing = tuple(side / refined for side in (0.9, 0.9, 2.0))
        sides = [(np.arange(refined * n) + 0.5) * side for n, side in zip((48, 48, 22), spacing, strict=True)]
        x, y, z = np.meshgrid(*(side - side.mean() for side in sides), indexing="ij")
        away = np.sqrt(x**2 + y**2 + z**2)
        bumps = np.sin(x / 1.7 + 1) * np.sin(y / 2.1) * np.cos(z / 2.9), np.cos(x / 2.3) * np.sin(y / 1.9 + z / 3.1)
        return away <= 15 + 2 * bumps[0], away <= 15 + 2.5 * bumps[1], spacing

    truth, coarse, peer = (
        surface_scores(*bodies(refined), tolerance_mm=1.0, hd95=convention).assd_mm
        for refined, convention in ((3, "directed_max"), (1, "directed_max"), (1, "deepmind"))
    )
    assert coarse == pytest.approx(truth, rel=0.06)
    assert peer < 0.8 * truth


def test_the_distance_map_leads_to_the_elements_that_the_tree_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    distance = distances_from_middle(26.0, (1.0, 1.0, 2.0), 0)
    one, other = distance <= 8.0, (distance <= 26.0) & (distance > 22.0)
    expected = surface_scores(one, other, (1.0, 1.0, 2.0), tolerance_mm=15.0)
    monkeypatch.setattr(surface_search, "_FEW", 0)
    followed = surface_scores(one, other, (1.0, 1.0, 2.0), tolerance_mm=15.0)
    assert followed.nsd == pytest.approx(expected.nsd, abs=1e-12)
    assert followed.hd95_mm == pytest.approx(expected.hd95_mm, rel=0.005)
    assert expected.assd_mm <= followed.assd_mm <= expected.assd_mm * 1.005


def test_far_elements_are_found_although_the_map_has_crests(monkeypatch: pytest.MonkeyPatch) -> None:
    # Between scattered voxels the map has crests, from which no slope leads to the nearest of them.
    one, other = random_masks((24, 22, 20), 7, 0.002)
    one[:] = True
    spacing = (1.0, 1.5, 2.0)
    codes = cell_codes(one), cell_codes(other)
    first, second = (surface_elements(code, spacing) for code in codes)
    expected = np.linalg.norm(first.centroids_mm[:, None] - second.centroids_mm, axis=2).min(axis=1)
    search = SurfaceSearch(second, codes[1], spacing)
    np.testing.assert_allclose(search.nearest(first).distance_mm, expected)
    asked: list[int] = []
    query = surface_search._query
    monkeypatch.setattr(surface_search, "_query", lambda tree, points: asked.append(len(points)) or query(tree, points))
    followed, neighbour = search._follow_map(first.centroids_mm, first.nodes_mm, first.cell)
    np.testing.assert_allclose(np.linalg.norm(first.centroids_mm - second.centroids_mm[neighbour], axis=1), followed)
    assert (followed >= expected - 1e-9).all()
    assert (followed - expected).max() < 4 / 3 * np.linalg.norm(spacing)
    assert (followed - expected).mean() < 0.02
    assert 0 < sum(asked) < 0.2 * len(expected)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.9])
def test_nodes_within_are_the_same_by_steps_on_the_lattice_and_by_the_map(tolerance: float) -> None:
    one, other = random_masks((12, 9, 10), 8, 0.04)
    spacing = (1.0, 0.7, 2.0)
    codes = cell_codes(one), cell_codes(other)
    first, second = (surface_elements(code, spacing) for code in codes)
    search = SurfaceSearch(second, codes[1], spacing)
    expected = search.node_distances(first) <= tolerance + 1e-6
    assert 0 < expected.sum() < len(expected)
    steps = surface_search._steps_within(tolerance + 1e-6, spacing)
    np.testing.assert_array_equal(search._has_surface_at(first.cell, steps), expected)
    np.testing.assert_array_equal(search.nodes_within(first, search.nearest(first), tolerance), expected)


def test_a_tolerance_beyond_the_image_needs_no_lattice_of_its_size() -> None:
    one, other = random_masks((12, 9, 10), 9, 0.01)
    assert surface_scores(one, other, (0.01, 0.01, 0.01), tolerance_mm=1e6).nsd == 1.0


def test_centres_of_gravity_lie_in_the_middle_third_of_their_cells() -> None:
    areas, centroids = element_tables((1.0, 1.0, 1.0))
    assert (np.abs(centroids[areas > 0] - 0.5) <= 1 / 3 + 1e-9).all()


def test_pooling_takes_one_percentile_of_both_surfaces_by_hand() -> None:
    # The surface of the large cube lies far from the small one inside; 95 % of both areas together reach less far
    # than 95 % of the large surface alone, and farther than 95 % of the small one.
    large, small = np.zeros((2, 21, 21, 21), dtype=bool)
    large[1:20, 1:20, 1:20] = small[8:13, 8:13, 8:13] = True
    codes = cell_codes(large), cell_codes(small)
    first, second = (surface_elements(code, (1.0, 1.0, 1.0)) for code in codes)
    distances, areas = [], []
    for elements, others in ((first, second), (second, first)):
        apart = np.linalg.norm(elements.centroids_mm[:, None] - others.centroids_mm, axis=2).min(axis=1)
        distances.append(average_with_neighbours(apart, elements, 2))
        areas.append(elements.areas_mm)
    pooled = np.repeat(np.concatenate(distances), np.round(1000 * np.concatenate(areas)).astype(int))
    expected = float(np.quantile(pooled, 0.95, method="inverted_cdf"))
    scores = {
        way: surface_scores(large, small, (1.0, 1.0, 1.0), tolerance_mm=1.0, hd95=way) for way in HD95_CONVENTIONS
    }
    assert scores["pooled"].hd95_mm == pytest.approx(expected, rel=1e-3)
    assert scores["pooled"].hd95_mm < scores["directed_max"].hd95_mm
    assert scores["pooled"].assd_mm == scores["directed_max"].assd_mm


def test_averaging_weighs_by_area_by_hand() -> None:
    # A line of three pixels of 2 x 2 mm: 4 segments of hypot(1, 1) at its ends and 4 of 2 mm along its sides.
    elements = surface_elements(cell_codes(np.ones((1, 3), dtype=bool)), (2.0, 2.0))
    short, long = math.hypot(1, 1), 2.0
    np.testing.assert_allclose(elements.areas_mm, [short, long, long, short] * 2)
    values = np.array([8.0, 0, 0, 0, 0, 0, 0, 0])
    averaged = average_with_neighbours(values, elements, 1)
    # The first meets the second along the side and the fifth at its own end of the line.
    expected = [
        8 * short / (2 * short + long),
        8 * short / (short + 2 * long),
        0,
        0,
        8 * short / (2 * short + long),
        0,
        0,
        0,
    ]
    np.testing.assert_allclose(averaged, expected)


def test_an_empty_mask_and_an_unknown_convention_are_refused() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(InputError, match="use an empty policy"):
        surface_scores(mask, ~mask, (1.0, 1.0, 1.0), tolerance_mm=1.0)
    with pytest.raises(InputError, match="directed_max, pooled, deepmind, monai, medpy, got 'mean'"):
        check_convention("mean")
