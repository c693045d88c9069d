"""Losses against the numbers of the original implementations."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equivox.datasets.centreline_tube import centreline_tubes
from equivox.losses.agreement import divergence
from equivox.losses.any_loss import AnyLossOptions, any_loss
from equivox.losses.betti_matching import BettiMatchingOptions, betti_matching_loss
from equivox.losses.boundary_distillation import (
    BoundaryDistillationLoss,
    BoundaryDistillationOptions,
    body_divergence,
    edge_divergence,
    edges_of,
    port_parts,
)
from equivox.losses.centreline_boundary_dice import CentrelineBoundaryDiceLoss, CentrelineBoundaryDiceOptions
from equivox.losses.cldice import ClDiceOptions, centreline_shares
from equivox.losses.comp_sum import CompSumLoss, CompSumOptions
from equivox.losses.context import CaseContext
from equivox.losses.febs_published import FebsPublishedLoss, FebsPublishedOptions
from equivox.losses.focal_tversky import FocalTverskyOptions, focal_tversky
from equivox.losses.label_distribution import AldrLoss, AldrOptions, LdrLoss, LdrOptions, scaled
from equivox.losses.mip import MipLoss, MipOptions, projected
from equivox.losses.rarity import rarity_weights
from equivox.losses.sample_distances import energy_distance, frechet_distance, sinkhorn_divergence
from equivox.losses.skeleton_recall import SkeletonRecallLoss, SkeletonRecallOptions
from equivox.losses.uu_mamba_published import focal_loss, weighed_by_sigma
from equivox.pipelines.training.sharpness import at_the_worst_nearby
from equivox.skeleton import skeleton

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def vectors(real_data: Path) -> Path:
    return real_data.parent / "vectors"


def read(vectors: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(vectors / f"{name}.npz") as stored:
        arrays = dict(stored)
    return arrays, json.loads((vectors / f"{name}.json").read_text())


def logits_of(probability: np.ndarray) -> torch.Tensor:
    """Two classes whose softmax gives a foreground probability."""
    p = torch.from_numpy(probability.astype(np.float64))
    return torch.stack([torch.zeros_like(p), torch.log(p) - torch.log1p(-p)])[None]


def test_mip_loss(vectors: Path) -> None:
    arrays, wanted = read(vectors, "spockmip")
    window = [slice(int(start), int(start) + int(arrays["patch"])) for start in arrays["start"]]
    volume = torch.from_numpy(arrays["volume_WLD"].astype(np.int64))
    label, logits = volume[tuple(window)][None], logits_of(arrays["pred"])
    whole = {}
    for axis in range(3):
        inside = volume.bool().any(axis)[tuple(side for place, side in enumerate(window) if place != axis)]
        whole[axis] = torch.stack([~inside, inside])[None]
    facts = CaseContext(projections=whole)

    def loss(**options: object) -> float:
        return float(MipLoss(MipOptions(**options)).per_sample(logits, label, facts))

    names = {0: "x", 1: "y", 2: "z"}
    for axis, name in names.items():
        assert loss(axes=[axis], target="full") == pytest.approx(wanted[f"mip_{name}_intended"], rel=1e-5)
        published = loss(axes=[axis], target="full", axis_order="published")
        assert published == pytest.approx(wanted[f"mip_{name}_as_coded"], rel=1e-5)
    assert 3 * loss(target="full") == pytest.approx(wanted["mip_multi_intended_sum"], rel=1e-5)
    assert loss(axes=[2]) == pytest.approx(wanted["mip_z_patchlocal"], rel=1e-5)
    volume_loss = float(
        focal_tversky(logits.softmax(1)[:, 1].flatten(1), label.flatten(1).double(), FocalTverskyOptions())
    )
    assert volume_loss == pytest.approx(wanted["ft_vol"], rel=1e-5)
    total = 0.7 * (0.001 + volume_loss) + 0.3 * (0.002 + loss(axes=[2], target="full", axis_order="published"))
    assert total == pytest.approx(wanted["total_single_z_0.7_0.3_level0_as_coded_offsets"], rel=1e-5)
    perfect = label.double()[:, None]
    target = whole[2][:, 1:].double()
    missed = focal_tversky(projected(perfect, 2, 16).flatten(2), target.flatten(2), FocalTverskyOptions())
    assert float(missed) == pytest.approx(wanted["perfect_pred_mip_z_vs_fullvol_intended"], rel=1e-5)


@pytest.fixture(scope="module")
def misc(vectors: Path) -> dict[str, Any]:
    return json.loads((vectors / "misc.json").read_text())


@pytest.fixture(scope="module")
def voxels(vectors: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Five voxels of one sample: logits ``(1, 4, 5)`` and their labels."""
    with np.load(vectors / "ldr.npz") as stored:
        return torch.from_numpy(stored["logits"]).T[None], torch.from_numpy(stored["label"])[None]


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.5, 1.7, 2.0])
def test_comp_sum(misc, voxels, tau: float) -> None:
    loss = CompSumLoss(CompSumOptions(tau=tau, warm_up=0.0)).per_sample(*voxels, CaseContext())
    assert float(loss) == pytest.approx(misc["comp_sum"][f"comp_sum_tau{tau}"], rel=1e-10)


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_ldr(misc, voxels, margin: float, temperature: float) -> None:
    loss = LdrLoss(LdrOptions(margin=margin, temperature=temperature)).per_sample(*voxels, CaseContext())
    wanted = misc["ldr"][f"LDR_V1_softplus_thr{margin}_lam{temperature}"]
    assert float(loss) == pytest.approx(wanted, rel=1e-10)


def test_ldr_without_margin_and_scaling_is_cross_entropy(misc, voxels) -> None:
    loss = LdrLoss(LdrOptions(margin=0.0, scaling="none")).per_sample(*voxels, CaseContext())
    assert float(loss) == pytest.approx(misc["ldr"]["LDR_KL_analytic_c0_lam1_nonorm"], rel=1e-10)


@pytest.mark.parametrize("call", [0, 1, 2])
def test_aldr(misc, voxels, call: int) -> None:
    # The released loss keeps its temperatures: its n-th call is our n-th update. It takes the logarithm of the number
    # of classes in float32.
    loss = AldrLoss(AldrOptions(margin=1.0, updates=call + 1))
    logits, label = voxels
    scores = scaled(logits, "l1")
    wanted = misc["ldr"]
    assert loss.temperatures(scores)[0].tolist() == pytest.approx(wanted[f"ALDR_lambda_after_call{call}"], rel=1e-8)
    value = float(loss.per_sample(logits, label, CaseContext()))
    assert value == pytest.approx(wanted[f"ALDR_call{call}_thr1_lam0=1_alpha2"], rel=1e-8)


@pytest.mark.parametrize("sharpness", [10, 73])
def test_any_loss(vectors: Path, misc, sharpness: int) -> None:
    with np.load(vectors / "anyloss.npz") as stored:
        p, y = (torch.from_numpy(stored[name]) for name in ("p", "y"))
    wanted = misc["anyloss"][f"L{sharpness}"]
    names = {
        "bacc": {"score": "balanced_accuracy"},
        "fbeta1": {},
        "fbeta2": {"beta": 2.0},
        "gmean_author_code_no_sqrt": {"score": "g_mean_published"},
        "gmean_paper_sqrt": {"score": "g_mean"},
    }
    for name, options in names.items():
        loss, _ = any_loss(p, y, AnyLossOptions(sharpness=sharpness, **options))
        assert float(loss) == pytest.approx(wanted[name], rel=1e-6), name


@pytest.mark.parametrize("case", ["febs_all_groups_g1", "febs_all_groups_g2", "febs_missing_group2_g1", "febs_gamma0"])
def test_released_fair_error_bound_scaling(vectors: Path, case: str) -> None:
    arrays, wanted = read(vectors, "fairseg")
    facts = wanted[case]
    logits, label = torch.from_numpy(arrays["logits"]), torch.from_numpy(arrays["label"])
    loss = FebsPublishedLoss(FebsPublishedOptions(febs_weight=1.0, ce_weight=0.0, gamma=facts["gamma"]))
    context = CaseContext(group=torch.tensor(facts["attr"]), groups=facts["n_attr"])
    assert float(loss.per_sample(logits, label, context).mean()) == pytest.approx(facts["loss"], abs=1e-7)
    truth = torch.nn.functional.one_hot(label, logits.shape[1]).movedim(-1, 1).double()
    weights = loss.weights(logits.softmax(1).flatten(2), truth.flatten(2), context).tolist()
    known = [(ours, theirs) for ours, theirs in zip(weights, facts["weights"], strict=True) if theirs is not None]
    assert [ours for ours, _ in known] == pytest.approx([theirs for _, theirs in known], abs=1e-7)


def test_released_scaling_lowers_the_gradient_of_the_group_that_fares_worst(vectors: Path) -> None:
    arrays, wanted = read(vectors, "fairseg")
    group = torch.from_numpy(arrays["attr"])
    found = []
    for gamma in (1.0, 0.0):
        logits = torch.from_numpy(arrays["logits"]).requires_grad_()
        loss = FebsPublishedLoss(FebsPublishedOptions(febs_weight=1.0, ce_weight=0.0, gamma=gamma))
        label = torch.from_numpy(arrays["label"])
        loss.per_sample(logits, label, CaseContext(group=group, groups=3)).mean().backward()
        assert logits.grad is not None
        found.append([float(logits.grad[group == index].abs().sum()) for index in range(3)])
    assert found[0] == pytest.approx(wanted["grad_abs_sum_per_group"]["febs"], rel=1e-5)


def test_distillation_on_edges_and_bodies(vectors: Path) -> None:
    arrays, wanted = read(vectors, "bpkd")
    student, teacher, label = (torch.from_numpy(arrays[name]) for name in ("student", "teacher", "label"))
    structures = label[None, None] == torch.arange(1, 3).reshape(-1, 1, 1, 1)
    edges = edges_of(structures, (1.0, 1.0, 1.0), 1.0, sides_count=True)
    bodies = structures & ~edges
    assert edges.sum((0, 2, 3, 4)).tolist() == wanted["edge_voxels"][1:]
    assert bodies.sum((0, 2, 3, 4)).tolist() == wanted["body_voxels"][1:]
    port = wanted["thirdparty_port_semantics(edge_w50,body_w20,T1)"]
    edge, body = port_parts(student, teacher, structures, edges, 1.0)
    assert 50 * float(edge) == pytest.approx(port["loss_edges"], rel=1e-10)
    assert 20 * float(body) == pytest.approx(port["loss_bodies"], rel=1e-10)
    loss = BoundaryDistillationLoss(BoundaryDistillationOptions(form="port"))
    whole = loss.per_sample(student, label[None], CaseContext(teacher=teacher))
    assert float(whole) == pytest.approx(sum(port.values()), rel=1e-10)
    ours = float(edge_divergence(student, teacher, edges, 1.0))
    assert ours == pytest.approx(wanted["pixelwise_edge_KL_mean_over_edge_union(unweighted)"], rel=1e-10)
    ours = float(body_divergence(student, teacher, bodies, 1.0))
    key = "masked_spatial_softmax_body_KL_mean_over_classes(unweighted)"
    assert ours == pytest.approx(wanted[key], rel=1e-10)


def test_released_uncertainty_weighing(vectors: Path, misc) -> None:
    wanted = misc["uumamba"]
    losses = torch.tensor(wanted["losses"])
    sigma = torch.ones(3, requires_grad=True)
    value = weighed_by_sigma(losses, sigma)
    value.backward()
    assert value.item() == pytest.approx(wanted["awl_init_sigma1"], rel=1e-6)
    assert sigma.grad is not None
    assert sigma.grad.tolist() == pytest.approx(wanted["awl_grad"], rel=1e-6)
    other = weighed_by_sigma(losses, torch.tensor([0.5, 1.5, 2.0]))
    assert other.item() == pytest.approx(wanted["awl_sigma_.5_1.5_2"], rel=1e-6)
    with np.load(vectors / "uumamba.npz") as stored:
        logits, label = (torch.from_numpy(stored[name]) for name in ("logits", "label"))
    for twice, name in ((True, "focal_as_used(double softmax)"), (False, "focal_single_softmax")):
        assert float(focal_loss(logits, label, softmax_twice=twice).mean()) == pytest.approx(wanted[name], rel=1e-6)


def test_divergence_from_reference_logits(vectors: Path, misc) -> None:
    with np.load(vectors / "saf.npz") as stored:
        now, reference = (torch.from_numpy(stored[name]) for name in ("logits_now", "logits_ref"))
    assert float(divergence(reference, now, 5.0).mean()) == pytest.approx(misc["saf"]["saf_kl_T5"], rel=1e-10)


@pytest.mark.parametrize(("adaptive", "radius"), [(False, 0.05), (True, 2.0)])
def test_sharpness_aware_steps(misc, adaptive: bool, radius: float) -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    w2 = torch.nn.Parameter(torch.tensor([[0.3]], dtype=torch.float64))
    optimizer = torch.optim.SGD([w, w2], lr=0.1, momentum=0.9)
    scales = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)

    def gradient() -> None:
        optimizer.zero_grad()
        (0.5 * (scales * w**2).sum() + (w2**4).sum() + w.sum() * w2.sum()).backward()

    wanted = misc["sam"]
    for step in (1, 2):
        gradient()
        with at_the_worst_nearby([w, w2], radius, adaptive=adaptive):
            if step == 1:
                assert w.tolist() == pytest.approx(wanted[f"adaptive={adaptive}_w_adv"], rel=1e-10)
            gradient()
        optimizer.step()
        after = [*w.tolist(), *w2[0].tolist()]
        assert after == pytest.approx(wanted[f"adaptive={adaptive}_w_after_step{step}"], rel=1e-10)


def test_distances_of_samples_from_raters(vectors: Path, misc) -> None:
    wanted = misc["pulaski"]
    with np.load(vectors / "pulaski.npz") as stored:
        samples, raters = (torch.from_numpy(stored[name]).flatten(2) for name in ("pred", "raters"))
        one, other = (torch.from_numpy(stored[name]).T[None] for name in ("act1", "act2"))
    value = float(sinkhorn_divergence(samples, raters, scaling="published").mean())
    assert value == pytest.approx(wanted["sinkhorn_default(p2,blur.05)_exact_call_kernel=None"], rel=1e-6)
    assert float(frechet_distance(one, other, scaling="published")) == pytest.approx(
        wanted["fastfid_random_act_d20_n4"], rel=1e-10
    )
    # The library behind the released number takes squared distances from products in float32, and roots of 1e-8 at
    # least: each point is then away from itself.
    released = 0.0
    for a, b, factor in ((samples, raters, 1.0), (samples, samples, -0.5), (raters, raters, -0.5)):
        squares = a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None] - 2 * a @ b.mT
        released += factor * float(squares.clamp(min=1e-8).sqrt().mean())
    assert released == pytest.approx(wanted["hausdorff_energy"], rel=1e-5)
    value = float(energy_distance(samples.double(), raters.double(), scaling="published").mean())
    assert value == pytest.approx(wanted["hausdorff_energy"], rel=1e-4)


needs_topolosses = pytest.mark.skipif(
    importlib.util.find_spec("topolosses") is None, reason="the extra topology has no wheel for this platform"
)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_cldice(vectors: Path, dimensions: int) -> None:
    arrays, wanted = read(vectors, "topology")
    guess, truth = (torch.from_numpy(arrays[f"{name}{dimensions}"]).double()[None, None] for name in "pt")
    precision, sensitivity = centreline_shares(guess, truth, ClDiceOptions())
    # MONAI adds 1e-4 to the denominator of the harmonic mean.
    found = 1 - 2 * precision * sensitivity / (precision + sensitivity + 1e-4)
    assert float(found) == pytest.approx(wanted[f"cldice_{dimensions}d_monai_default"], rel=1e-5)


@pytest.fixture(scope="module")
def tubular(vectors: Path) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """A bent vessel and a rod: labels and logits of three classes, and the numbers."""
    arrays, wanted = read(vectors, "skeleton")
    return torch.from_numpy(arrays["label"].astype(np.int64))[None], torch.from_numpy(arrays["logits"]), wanted


def test_released_centreline_boundary_dice(tubular) -> None:
    label, logits, wanted = tubular
    options = CentrelineBoundaryDiceOptions(form="published", skeleton="morphological")
    good = logits + 4 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1)
    for name, value in (("random", logits), ("good", good)):
        # Theirs is the negative of the harmonic mean.
        found = float(CentrelineBoundaryDiceLoss(options).per_sample(value, label, CaseContext())) - 1
        assert found == pytest.approx(wanted[f"cbdice_{name}"], rel=1e-5)


def test_skeleton_recall_and_its_tubes(tubular) -> None:
    label, logits, wanted = tubular
    tubes = centreline_tubes(label[0].numpy())
    assert int(skeleton(label[0].numpy() > 0).sum()) == wanted["skel_voxels"]
    assert np.bincount(tubes.ravel())[1:].tolist() == wanted["tube_voxels_per_class"]

    def recall(tube: np.ndarray, **options: Any) -> float:
        context = CaseContext(skeleton=torch.from_numpy(tube)[None])
        return 1 - float(SkeletonRecallLoss(SkeletonRecallOptions(**options)).per_sample(logits, label, context))

    for over, name in (("sample", "tube_softmax"), ("batch", "batch_dice")):
        assert -recall(tubes, over=over) == pytest.approx(wanted[f"skeleton_recall_{name}"], rel=1e-5)
    without = np.where(tubes == 2, 0, tubes)
    assert -recall(without, absent="published") == pytest.approx(wanted["skeleton_recall_class2_absent"], rel=1e-5)
    # Ours is class 1's alone, of which the released form is the mean with 1.
    assert recall(without) == pytest.approx(2 * -wanted["skeleton_recall_class2_absent"] - 1, rel=1e-5)


@needs_topolosses
@pytest.mark.parametrize("dimensions", [2, 3])
def test_betti_matching(vectors: Path, dimensions: int) -> None:
    arrays, wanted = read(vectors, "topology")
    truth = torch.from_numpy(arrays[f"t{dimensions}"]).float()[None, None]

    def loss(**options: Any) -> tuple[float, float]:
        guess = torch.from_numpy(arrays[f"p{dimensions}"]).float()[None, None].requires_grad_()
        value = betti_matching_loss(guess, truth, BettiMatchingOptions(essential=False, **options))
        value.sum().backward()
        assert guess.grad is not None
        return float(value.detach()), float(guess.grad.norm())

    start = f"bm_{dimensions}d_"
    for ours, theirs in (("superlevel", "superlevel"), ("sublevel", "sublevel"), ("both", "bothlevels")):
        value, norm = loss(filtration=ours)
        assert value == pytest.approx(wanted[start + theirs], rel=1e-5)
        assert norm == pytest.approx(wanted[f"{start}{theirs}_gradnorm"], rel=1e-5)
    assert loss(filtration="both_sum")[0] == pytest.approx(2 * wanted[start + "bothlevels"], rel=1e-5)
    assert loss(push_unmatched=True)[0] == pytest.approx(wanted[start + "superlevel_push"], rel=1e-5)


@needs_topolosses
@pytest.mark.parametrize("filtration", ["superlevel", "sublevel"])
def test_betti_matching_with_frame_and_essential_class_is_the_first_released_code(vectors, filtration: str) -> None:
    arrays, wanted = read(vectors, "topology")
    guess, truth = (torch.from_numpy(arrays[f"{name}2"]).double()[None, None] for name in "pt")

    def loss(scale: float, shift: float, **options: Any) -> float:
        chosen = BettiMatchingOptions(filtration=filtration, **options)  # type: ignore[arg-type]
        return float(betti_matching_loss(scale * guess + shift, truth, chosen))

    for relative in (False, True):
        theirs = wanted["nstucki_python_2d"][f"python2d_{filtration}_relative={relative}"]
        assert loss(1.0, 0.0, relative=relative) == pytest.approx(theirs, rel=1e-5)
    found = wanted["essential_class_check"]
    for essential, program in ((True, "python2d"), (False, "topolosses")):
        theirs = found[f"{program}_{filtration}_p*0.8+0.05"]
        assert loss(0.8, 0.05, essential=essential) == pytest.approx(theirs, rel=1e-5)


def test_weights_of_rare_cases_are_the_published_ones(vectors: Path) -> None:
    wanted = json.loads((vectors / "misc.json").read_text())["datasetequity"]
    sizes = np.array(wanted["cluster_sizes"], dtype=np.float64)
    np.testing.assert_allclose(rarity_weights(sizes / sizes.max()), wanted["w_eta1_gamma5"], rtol=1e-12)
    np.testing.assert_allclose(rarity_weights(sizes / sizes.sum()), wanted["w_p=size/N"], rtol=1e-12)
