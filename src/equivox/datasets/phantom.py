"""A cohort made on the spot: smooth anatomies in two MR-like channels, with one group that is harder to segment."""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter

from equivox.atomic import atomic_folder
from equivox.errors import InputError
from equivox.progress import track

ANATOMIES = ("single organ", "paired organ", "tubular organ")
CLASSES = {"organ": 1, "lesion": 2}
TABLE_COLUMNS = ("sex", "age", "scanner", "anatomy")

_SMALLEST_SIDE = 4

# Every third file of the cohort is stored in another orientation, as files of a real cohort are.
_FLIPS = ((1, 1, 1), (-1, -1, 1), (-1, 1, 1))


@dataclass(frozen=True)
class PhantomPatient:
    """What is known of one made-up patient before any voxel is drawn.

    Attributes:
        case_id: Such as ``phantom_007``.
        sex: ``female`` or ``male``; it has no influence on the scan.
        age: In years; it has no influence on the scan.
        scanner: ``new`` or ``old``; the old one has less lesion contrast and more noise: the harder group.
        anatomy: One of `ANATOMIES`.
        has_lesion: About one patient in eight has none.
    """

    case_id: str
    sex: str
    age: int
    scanner: str
    anatomy: str
    has_lesion: bool


def phantom_patients(count: int, *, seed: int = 0) -> tuple[PhantomPatient, ...]:
    """Draw the patients of a cohort; the same count and seed always give the same patients.

    Args:
        count: How many, 1 or more.
        seed: Chooses another cohort of the same kind.
    """
    random = np.random.default_rng([seed, 1])
    return tuple(
        PhantomPatient(
            case_id=f"phantom_{index:03d}",
            sex=str(random.choice(["female", "male"])),
            age=int(random.integers(25, 90)),
            scanner="old" if random.random() < 0.4 else "new",
            anatomy=ANATOMIES[index % len(ANATOMIES)],
            has_lesion=bool(random.random() < 0.88),
        )
        for index in range(count)
    )


def draw_phantom(
    patient: PhantomPatient, *, shape: tuple[int, int, int] = (72, 64, 24), seed: int = 0
) -> tuple[Float[np.ndarray, "2 i j k"], UInt8[np.ndarray, "i j k"], Float[np.ndarray, "4 4"]]:
    """Draw one patient's scan.

    Args:
        patient: Who it is.
        shape: Voxels along i, j, k.
        seed: As for the cohort.

    Returns:
        The two channels (float32, `t1` and `flair`), the label map (uint8: 0 background, 1 organ, 2 lesion) and the
        affine from voxels to RAS millimetres: anisotropic, a few degrees oblique.
    """
    # A hash of Python's own differs from run to run.
    random = np.random.default_rng([seed, zlib.crc32(patient.case_id.encode())])
    spacing = np.array([1.5, 1.5, 4.0]) * random.uniform(0.92, 1.08, 3)
    affine = _oblique_affine(shape, spacing, random)
    position = (
        np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
        * spacing[:, None, None, None]
    )

    warp = np.stack([_smooth_noise(shape, spacing, 14.0, random) for _ in range(3)]) * 3.5
    field = position + warp
    body = _ellipsoid(field, (0.0, 0.0, 0.0), (46.0, 40.0, 60.0)) > 0
    organ = _organ(patient.anatomy, field, random)
    organ &= body
    lesion = _lesion(organ, field, random) if patient.has_lesion else np.zeros(shape, dtype=bool)

    # Signal of (outside, body, organ, lesion) in the two contrasts; the old scanner shows lesions less clearly.
    contrast = 0.42 if patient.scanner == "old" else 1.0
    noise = 0.14 if patient.scanner == "old" else 0.06
    levels = {"t1": (0.0, 0.55, 0.80, 0.80 - 0.30 * contrast), "flair": (0.0, 0.45, 0.60, 0.60 + 0.45 * contrast)}
    channels = []
    for outside, soft, inner, sick in levels.values():
        tissue = np.select([lesion, organ, body], [sick, inner, soft], outside)
        tissue = tissue + body * 0.05 * _smooth_noise(shape, spacing, 6.0, random)
        blurred = gaussian_filter(tissue, 0.9 / spacing)  # partial volume of about a millimetre
        bias = np.exp(0.15 * _smooth_noise(shape, spacing, 40.0, random))
        signal = blurred * bias * random.uniform(0.9, 1.1)
        # Rician noise, as magnitude images have.
        real, imaginary = signal + noise * random.standard_normal(shape), noise * random.standard_normal(shape)
        channels.append(1000 * np.hypot(real, imaginary) * (body | (random.random(shape) < 0.9)))
    label = np.zeros(shape, dtype=np.uint8)
    label[organ] = CLASSES["organ"]
    label[lesion] = CLASSES["lesion"]
    return np.stack(channels).astype(np.float32), label, affine


def write_phantoms(
    folder: Path, *, patients: int = 60, shape: tuple[int, int, int] = (72, 64, 24), seed: int = 0
) -> Path:
    """Write a made-up cohort as a research group would have it: a folder of scans and a table of patients.

    The same arguments give the same files, byte for byte.

    Args:
        folder: Gets ``scans/<case_id>/<case_id>_{t1,flair,label}.nii.gz`` and ``participants.csv`` with the columns
            ``case, sex, age, scanner, anatomy``.
        patients: How many, 1 or more; each has one case.
        shape: Voxels of every scan along i, j, k.
        seed: Chooses another cohort of the same kind.

    Returns:
        The folder.

    Raises:
        InputError: If there would be no patient, scans would be too small, or the folder is there and not empty.
    """
    if patients < 1:
        msg = f"patients: expected 1 or more, got {patients}; a cohort needs somebody in it"
        raise InputError(msg)
    if min(shape) < _SMALLEST_SIDE:
        msg = f"size: expected {_SMALLEST_SIDE} voxels or more along each axis, got {shape}; an organ must fit in"
        raise InputError(msg)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder}: expected a new or empty folder, got one with files in it; choose another"
        raise InputError(msg)
    rows = []
    with atomic_folder(folder) as temporary:
        for index, patient in enumerate(track(phantom_patients(patients, seed=seed), "drawing")):
            channels, label, affine = draw_phantom(patient, shape=shape, seed=seed)
            flips = _FLIPS[index % len(_FLIPS)]
            arrays = {"t1": channels[0].astype(np.int16), "flair": channels[1].astype(np.int16), "label": label}
            case = temporary / "scans" / patient.case_id
            case.mkdir(parents=True)
            for name, array in arrays.items():
                _write(array, affine, flips, case / f"{patient.case_id}_{name}.nii.gz")
            facts = asdict(patient)
            rows.append({"case": facts["case_id"]} | {name: facts[name] for name in TABLE_COLUMNS})
        pd.DataFrame(rows).to_csv(temporary / "participants.csv", index=False, lineterminator="\n")
    return folder


def _write(array: np.ndarray, affine: np.ndarray, flips: tuple[int, int, int], path: Path) -> None:
    orientation = np.array([[axis, flip] for axis, flip in enumerate(flips)])
    image = nib.Nifti1Image(array, affine).as_reoriented(orientation)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def _oblique_affine(shape: tuple[int, int, int], spacing: np.ndarray, random: np.random.Generator) -> np.ndarray:
    a, b, c = np.deg2rad(random.uniform(-6, 6, 3))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_y @ about_z @ np.diag(spacing)
    affine[:3, 3] = random.uniform(-20, 20, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _smooth_noise(
    shape: tuple[int, int, int], spacing: np.ndarray, scale_mm: float, random: np.random.Generator
) -> np.ndarray:
    noise = gaussian_filter(random.standard_normal(shape), scale_mm / spacing, mode="wrap")
    # Over a scan that is small beside the scale, the mean of the noise is far from 0.
    return np.asarray((noise - noise.mean()) / noise.std())


def _ellipsoid(field: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Return a function of position that is positive inside, zero on the surface and 1 at the centre."""
    scaled = (field - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
    return np.asarray(1 - np.sqrt((scaled**2).sum(axis=0)))


def _organ(anatomy: str, field: np.ndarray, random: np.random.Generator) -> np.ndarray:
    size = random.uniform(0.85, 1.15)
    if anatomy == "single organ":
        inside = (
            _ellipsoid(field, (random.uniform(-6, 6), random.uniform(-5, 5), 0.0), (24 * size, 20 * size, 32 * size))
            > 0
        )
    elif anatomy == "paired organ":
        radii = (12 * size, 17 * size, 28 * size)
        inside = (_ellipsoid(field, (-20.0, 4.0, 2.0), radii) > 0) | (_ellipsoid(field, (20.0, 4.0, -2.0), radii) > 0)
    else:
        bend = 8 * np.sin(field[2] / 22 + random.uniform(0, 6))
        inside = np.hypot(field[0] - bend, field[1]) < 13 * size
        inside &= np.abs(field[2]) < 40
    return np.asarray(inside)


def _lesion(organ: np.ndarray, field: np.ndarray, random: np.random.Generator) -> np.ndarray:
    centres = np.argwhere(organ)
    if len(centres) == 0:  # a scan of a few voxels may miss the organ
        return organ
    i, j, k = centres[random.integers(len(centres))]
    radius = random.uniform(5.5, 11)
    blob = _ellipsoid(field, tuple(field[:, i, j, k]), (radius, radius * random.uniform(0.7, 1.2), radius * 1.2)) > 0
    return np.asarray(blob & organ)
