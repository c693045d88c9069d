"""Options: frozen pydantic models that are also sections of a YAML file."""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from equivox.atomic import write_text
from equivox.errors import InputError


class Options(BaseModel):
    """Base of every thing that can be configured: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=BaseModel)


def parse_options(kind: type[Kind], values: Any, where: str | Callable[[str], str]) -> Kind:
    """Build `kind` from plain values, with an error line that a user can act on.

    Args:
        kind: The options' class.
        values: A mapping as it comes from YAML.
        where: The file or option that the values come from, for the message; or a function that says of each key, such
            as ``optimizer.lr``, how the user gave it.

    Raises:
        InputError: If a key is unknown (with the nearest known one) or a value does not fit.

    Example:
        >>> class Optimizer(Options):
        ...     name: str = "adamw"
        >>> parse_options(Optimizer, {"nam": "sgd"}, "config.yaml")
        Traceback (most recent call last):
        equivox.errors.InputError: config.yaml: unknown key 'nam'; did you mean 'name'?
    """
    if not isinstance(values, dict):
        msg = f"{where}: expected a mapping of options, got {type(values).__name__}; write one 'key: value' a line"
        raise InputError(msg)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        if not isinstance(where, str):
            lines = (f"{where(_dotted(item))}: {_explain(kind, item, named=True)}" for item in error.errors())
            raise InputError("; ".join(lines)) from None
        raise InputError(f"{where}: " + "; ".join(_explain(kind, item) for item in error.errors())) from None


def flag(key: str) -> str:
    """Return the flag of the command line that sets an option: ``--bootstrap-draws`` for ``bootstrap_draws``.

    Example:
        >>> flag("case_mix.0")  # the first of a list
        '--case-mix'
    """
    return "--" + re.sub(r"(\.\d+)+$", "", key).replace("_", "-")


def load_options(kind: type[Kind], path: Path) -> Kind:
    """Read options from a YAML file.

    Raises:
        InputError: If there is no such file, it is not YAML, or a key or value does not fit.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path}: no such file; check the path"
        raise InputError(msg) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: expected YAML, got {' '.join(str(error).split())}; mend the file"
        raise InputError(msg) from None
    return parse_options(kind, {} if values is None else values, str(path))


def save_options(options: BaseModel, path: Path, comment: str = "") -> None:
    """Write options as YAML that `load_options` reads back, under an optional comment of whole lines."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    write_text(path, head + body)


def override_options(options: Kind, assignments: Sequence[str]) -> Kind:
    """Return the options with `--set` assignments applied.

    Args:
        options: What to change a copy of.
        assignments: Each ``a.b=value``; the value is YAML, so ``1e-3``, ``[1, 2]`` and ``null`` work. In a list of
            things with names, such as the terms of a loss, ``a.name.b`` or ``a.0.b`` is an option of one of them.

    Raises:
        InputError: If an assignment has no ``=``, names no option, or its value does not fit.
    """
    values: dict[str, Any] = options.model_dump(mode="json")
    places: dict[str, str] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            msg = f"--set {assignment}: expected key=value, got no '='; write for example --set optimizer.lr=1e-3"
            raise InputError(msg)
        section: Any = values
        *parents, last = key.strip().split(".")
        path = []
        for parent in parents:
            place = _place(section, parent, key)
            section = section[place]
            path.append(str(place))
        places[assignment] = ".".join([*path, last])
        if not isinstance(section, dict):
            msg = f"--set {key}: expected one of {_names(section)} after the last dot but one, got '{last}'; name it"
            raise InputError(msg)
        if last not in section:
            raise InputError(f"--set {key}: unknown option{suggestion(last, section)}")
        section[last] = _yaml_value(text, key)

    def at_fault(key: str) -> str:
        """Name the assignments to the key, to a part of it or to the whole that it belongs to."""
        same = [each for each in assignments if _related(places[each], key)]
        return "--set " + ", ".join(same or assignments)

    return parse_options(type(options), values, at_fault)


def _related(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _yaml_value(text: str, key: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        msg = f"--set {key}: expected a YAML value, got '{text}'; quote it"
        raise InputError(msg) from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 as a string for want of a dot.
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _place(section: Any, name: str, key: str) -> str | int:
    """Return where a section within a section is; in a list, that of the entry of this name or at this place."""
    if isinstance(section, list):
        places = [place for place, entry in enumerate(section) if name in (str(place), entry["name"])]
        if len(places) != 1:
            what = "none" if not places else f"{len(places)} of that name"
            msg = f"--set {key}: expected one of {_names(section)}, or a place from 0, got '{name}' ({what}); name one"
            raise InputError(msg)
        return places[0]
    if name in section and not _is_section(section[name]):
        msg = f"--set {key}: expected a section before the last dot, got the option '{name}'; end with its name"
        raise InputError(msg)
    if name not in section:
        raise InputError(f"--set {key}: unknown section '{name}'{suggestion(name, section)}")
    return name


def _is_section(value: Any) -> bool:
    """Tell a mapping, or a list of mappings with names, from a value."""
    named = isinstance(value, list) and value and all(isinstance(entry, dict) and "name" in entry for entry in value)
    return isinstance(value, dict) or bool(named)


def _names(section: Sequence[dict[str, Any]]) -> str:
    return ", ".join(str(entry["name"]) for entry in section)


def _dotted(item: Any) -> str:
    return ".".join(str(part) for part in item["loc"])


def _explain(kind: type[BaseModel], item: Any, *, named: bool = False) -> str:
    """Say what is wrong and what to do; `named` where the key stands before it already."""
    *parents, last = item["loc"] or ("value",)
    dotted = _dotted(item)
    if item["type"] == "extra_forbidden":
        return f"unknown key '{dotted}'{suggestion(str(last), _fields(kind, parents)) or '; leave it out'}"
    if item["type"] == "missing":
        return f"key '{dotted}' is missing; add it"
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)  # of a section with options of its own: it says all that is needed
    wanted, _, _ = str(item["msg"]).removeprefix("Value error, ").partition(", unable to parse")
    wanted = re.sub("^Input should be (?=greater|less)", "expected a number ", wanted)
    wanted = re.sub("^Input should be ", "expected ", wanted).replace("valid tuple", "list")
    # A rule that ties several options together names what came by itself; the whole section would bury it.
    came = "" if isinstance(item["input"], (dict, BaseModel)) else f", got {item['input']!r}"
    # A rule of our own may say itself what came, and what to do about it.
    wanted, _, todo = wanted.partition("; ")
    came = "" if ", got " in wanted else came
    todo = todo or ("choose one of them" if item["type"] == "literal_error" else "change it")
    return f"'{dotted}': {wanted}{came}; {todo}" if dotted and not named else f"{wanted}{came}; {todo}"


def _fields(kind: type[BaseModel], parents: Sequence[Any]) -> list[str]:
    for parent in parents:
        field = kind.model_fields.get(str(parent))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def suggestion(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them.

    Example:
        >>> suggestion("wieght", ["weight", "name"]), suggestion("x", ["weight", "name"])
        ("; did you mean 'weight'?", '; known here: weight, name')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known here: {', '.join(known)}" if known else ""
