"""What there is to evaluate: two tables of landmarks, paired by case, and a table of patients."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from equivox.datasets.cohort import AttributeConfig
from equivox.datasets.landmark_table import LandmarkTable, Point, read_landmarks
from equivox.datasets.text_table import refuse_lost_zeros
from equivox.errors import InputError
from equivox.pipelines.evaluation.group_checks import refuse_formulas, single_groups, unknown_values, unmatched_ids
from equivox.pipelines.evaluation.sources import MaskOptions, attribute_configs, group_of, read_groups


@dataclass(frozen=True)
class LandmarkCase:
    """One case that is to be measured.

    Attributes:
        case_id: Unique among the cases.
        patient_id: The unit of the statistics.
        reference: Landmark -> its point, None where the case does not have it.
        prediction: Likewise; None where the case is not in the table of predictions, and all of them are missed.
        groups: Attribute -> group, None where unknown.
    """

    case_id: str
    patient_id: str
    reference: Mapping[str, Point | None]
    prediction: Mapping[str, Point | None] | None
    groups: Mapping[str, str | None]


@dataclass(frozen=True)
class LandmarkSource:
    """Everything that is known before anything is measured.

    Attributes:
        name: Of the table of references.
        dims: Coordinates a point.
        landmarks: Those of the references in the order of the table, then those that the predictions alone name.
        attributes: How the values of each attribute make groups.
        cases: In the order of the references.
        excluded: Case -> why it is not measured.
        extra_predictions: Cases of the predictions that the references do not have.
        notes: Further things that a reader should know.
        files: Tables that were read, for their hashes.
    """

    name: str
    dims: int
    landmarks: tuple[str, ...]
    attributes: dict[str, AttributeConfig]
    cases: tuple[LandmarkCase, ...]
    excluded: dict[str, str]
    extra_predictions: tuple[str, ...]
    notes: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def missing_predictions(self) -> tuple[str, ...]:
        """The cases that the predictions do not have."""
        return tuple(case.case_id for case in self.cases if case.prediction is None)


def landmark_source(references: Path, predictions: Path, options: MaskOptions) -> LandmarkSource:
    """Pair two tables of landmarks by case, and look up the patients in a third.

    Args:
        references: Table of the true landmarks, see `read_landmarks`.
        predictions: Table of the predicted ones, in the same unit and frame.
        options: The table of patients.

    Raises:
        InputError: If a table cannot be read, or the tables do not fit together.
    """
    truth, guess = read_landmarks(references), read_landmarks(predictions)
    if references.samefile(predictions):
        msg = f"--predictions {predictions}: expected another table than --references, got the same; name another"
        raise InputError(msg)
    dims = _check_fit(truth, guess)
    configs = attribute_configs(options)
    refuse_formulas(references, "an id of a case", truth.cases)
    table = read_groups(options, configs, set(truth.cases))
    rows = table.rows
    cases: list[LandmarkCase] = []
    excluded: dict[str, str] = {}
    for case_id, reference in truth.cases.items():
        row = rows.get(case_id)
        if row is None and options.patient is not None:
            excluded[case_id] = "no row in the table of groups, so its patient is unknown"
            continue
        values = {} if row is None else row
        cases.append(
            LandmarkCase(
                case_id,
                values[options.patient] if options.patient else case_id,
                reference,
                guess.cases.get(case_id),
                {
                    name: group_of(config, values.get(name) or None, name, options.groups)
                    for name, config in configs.items()
                },
            )
        )
    notes = table.notes
    if options.groups is not None:
        notes += unknown_values(table.unknown, options.groups, "groups")
        notes += unmatched_ids(options.groups, rows, truth.cases, excluded=options.patient is not None, what="case")
        notes += single_groups([case.groups for case in cases], configs)
    if options.patient is None:
        notes += ("No column of patients was given: each case counts as a patient of its own.",)
    return LandmarkSource(
        name=references.stem,
        dims=dims,
        landmarks=tuple(dict.fromkeys([*truth.landmarks, *guess.landmarks])),
        attributes=configs,
        cases=tuple(cases),
        excluded=excluded,
        extra_predictions=tuple(case_id for case_id in guess.cases if case_id not in truth.cases),
        notes=notes,
        files=(references, predictions, *([options.groups] if options.groups else [])),
    )


def _check_fit(truth: LandmarkTable, guess: LandmarkTable) -> int:
    """Return the coordinates a point of both tables, which must have cases and landmarks in common."""
    if truth.dims is None:
        msg = f"{truth.path}: expected a landmark with coordinates, got none; fill in x, y and, in 3D, z"
        raise InputError(msg)
    refuse_lost_zeros(guess.path, "case_id", guess.cases, truth.cases)
    for what, own, other in (("case", truth.cases, guess.cases), ("landmark", truth.landmarks, guess.landmarks)):
        if not set(own) & set(other):
            msg = (
                f"{guess.path}: expected a {what} of {truth.path}, such as '{next(iter(own))}', got none, such as "
                f"'{next(iter(other))}'; use the same names in both"
            )
            raise InputError(msg)
    if guess.dims is not None and guess.dims != truth.dims:
        msg = (
            f"{guess.path}: expected points of {truth.dims} coordinates, as in {truth.path}, got {guess.dims}; "
            "give both in one frame"
        )
        raise InputError(msg)
    return truth.dims
