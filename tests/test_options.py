from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, field_validator, model_validator

from equivox.errors import InputError
from equivox.options import Options, flag, load_options, override_options, parse_options, save_options


class Optimizer(Options):
    name: str = "adamw"
    lr: float = 1e-3


class Config(Options):
    steps: int = 100
    optimizer: Optimizer = Optimizer()


def test_saved_options_are_read_back_equal(tmp_path: Path) -> None:
    config = Config(steps=7, optimizer=Optimizer(lr=2e-5))
    save_options(config, tmp_path / "config.yaml", comment="two\nlines")
    assert (tmp_path / "config.yaml").read_text().startswith("# two\n# lines\nsteps: 7\n")
    assert load_options(Config, tmp_path / "config.yaml") == config


def test_an_unknown_nested_key_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(InputError, match=r"^x\.yaml: unknown key 'optimizer\.larning'; known here: name, lr$"):
        parse_options(Config, {"optimizer": {"larning": 1}}, "x.yaml")
    with pytest.raises(InputError, match=r"unknown key 'optimizer\.nam'; did you mean 'name'\?"):
        parse_options(Config, {"optimizer": {"nam": 1}}, "x.yaml")


def test_every_wrong_value_is_named_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        parse_options(Config, {"steps": "many", "optimizer": {"lr": "fast"}}, "x.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert "'steps'" in message
    assert "'optimizer.lr'" in message
    assert "'fast'" in message


def test_assignments_reach_nested_options_and_read_yaml_values() -> None:
    changed = override_options(Config(), ["optimizer.lr=1e-4", "steps=12", "optimizer.name=sgd"])
    assert changed == Config(steps=12, optimizer=Optimizer(name="sgd", lr=1e-4))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps", r"--set steps: expected key=value"),
        ("stps=3", r"--set stps: unknown option; did you mean 'steps'\?"),
        ("optimzer.lr=3", r"unknown section 'optimzer'; did you mean 'optimizer'\?"),
        ("steps=[1", r"--set steps: expected a YAML value"),
        ("steps.more=3", r"expected a section before the last dot, got the option 'steps'; end with its name"),
        ("steps=soon", r"^--set steps=soon: expected a valid integer, got 'soon'; change it$"),
        ("steps=.nan", r"^--set steps=.nan: expected a finite number, got nan; change it$"),
        ("optimizer=3", r"^--set optimizer=3: expected .*, got 3; change it$"),
    ],
)
def test_a_wrong_assignment_is_one_line(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override_options(Config(), [assignment])


def test_among_several_assignments_only_the_one_at_fault_is_named() -> None:
    with pytest.raises(InputError, match=r"^--set optimizer\.lr=fast: expected a valid number, got 'fast'; change it$"):
        override_options(Config(), ["steps=3", "optimizer.lr=fast", "optimizer.name=sgd"])


def test_assignments_that_do_not_fit_together_are_named_together() -> None:
    with pytest.raises(InputError, match=r"^--set range\.low=5, range\.high=2: low must lie below high"):
        override_options(Named(), ["kind=b", "range.low=5", "range.high=2"])


def test_options_of_the_command_line_are_named_as_flags_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"^--kind: expected 'a' or 'b', got 'c'; choose one of them$"):
        parse_options(Named, {"kind": "c"}, flag)
    with pytest.raises(InputError, match=r"^--small-part: expected a number less than 1, got 2\.0; change it$"):
        parse_options(Named, {"small_part": 2.0}, flag)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "expected YAML"), ("- 1\n- 2", "expected a mapping of options, got list")],
)
def test_a_file_that_holds_no_options_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_options(Config, path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_options(Config, tmp_path / "none.yaml")


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load_options(Config, tmp_path / "empty.yaml") == Config()


class Range(Options):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if self.low >= self.high:
            msg = f"low must lie below high, got {self.low} and {self.high}"
            raise ValueError(msg)
        return self


class Window(Options):
    range: Range = Range()


class Named(Window):
    kind: Literal["a", "b"] = "a"
    small_part: float = Field(default=0.5, lt=1)


def test_a_rule_over_several_options_is_told_without_the_whole_section() -> None:
    with pytest.raises(InputError, match=r"^x\.yaml: low must lie below high, got 3 and 1; change it$"):
        parse_options(Range, {"low": 3}, "x.yaml")
    with pytest.raises(InputError, match=r"^x\.yaml: 'range': low must lie below high, got 3 and 1; change it$"):
        parse_options(Window, {"range": {"low": 3}}, "x.yaml")


class Picked(Options):
    names: tuple[str, ...] = ()
    pair: tuple[int, ...] = (1, 2)

    @field_validator("names")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if "c" in names:
            msg = "expected some of a, b, got 'c'; choose among them"
            raise ValueError(msg)
        return names

    @field_validator("pair")
    @classmethod
    def _are_two(cls, pair: tuple[int, ...]) -> tuple[int, ...]:
        if len(pair) != 2:
            msg = "expected two numbers; leave the others out"
            raise ValueError(msg)
        return pair


def test_what_came_is_told_once_and_before_what_to_do() -> None:
    with pytest.raises(InputError, match=r"^--names: expected some of a, b, got 'c'; choose among them$"):
        parse_options(Picked, {"names": ["a", "c"]}, flag)
    with pytest.raises(InputError, match=r"^--pair: expected two numbers, got \[1\]; leave the others out$"):
        parse_options(Picked, {"pair": [1]}, flag)
