import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equivox import __version__
from equivox.cli import app as command_line
from equivox.cli.app import app
from equivox.errors import InputError
from equivox.pipelines import doctor as doctor_pipeline

TRAINING = ("cohort", "plan", "preprocess", "train", "predict")
COMMANDS = (*TRAINING, "evaluate", "evaluate-landmarks", "audit", "cross-site", "demo", "doctor")


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command}" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from equivox.cli import app; "
        "print([name for name in ('torch', 'monai', 'pandas', 'numpy', 'scipy', 'matplotlib', 'nibabel', 'itk')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"equivox {__version__}\n")


@pytest.mark.parametrize("words", [("-q", "doctor"), ("doctor", "-q"), ("doctor", "--quiet")])
def test_quiet_may_stand_before_the_command_or_after_it(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 0
    assert command_line.logger.level == logging.ERROR


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            InputError("scan.nii: expected 3D,\n got 4D; split it"),
            2,
            "equivox: scan.nii: expected 3D, got 4D; split it\n",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a.csv"),
            2,
            "equivox: a.csv: expected a file or folder, got nothing there; check the path\n",
        ),
        (
            MemoryError("Unable to allocate 7 PiB"),
            2,
            "equivox: expected memory enough, got too little (Unable to allocate 7 PiB); use smaller "
            "batches, fewer --workers, or a larger machine\n",
        ),
        (KeyboardInterrupt(), 130, "equivox: stopped by the user; nothing half written is left behind\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(doctor_pipeline, "examine", fail)
    result = CliRunner().invoke(app, ["doctor"])
    assert (result.exit_code, result.stderr) == (code, line)


def test_our_own_fault_says_so_and_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(doctor_pipeline, "examine", fail)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "this is our fault, not yours: ZeroDivisionError: by zero" in result.stderr
    assert "Traceback" not in result.stderr
    verbose = CliRunner().invoke(app, ["--verbose", "doctor"])
    assert "Traceback" in verbose.output


def test_an_unknown_option_ends_with_2() -> None:
    result = CliRunner().invoke(app, ["doctor", "--jsn"])
    assert result.exit_code == 2
    assert "--json" in result.stderr


def test_quiet_and_verbose_exclude_each_other() -> None:
    result = CliRunner().invoke(app, ["-q", "-v", "doctor"])
    assert result.exit_code == 2
    assert "expected one of them" in result.stderr


def test_a_logged_path_stays_in_one_piece(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ("long" * 40)
    CliRunner().invoke(app, ["doctor", "--json"])
    command_line.logger.info("see %s", path)
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_that_wait_soon_sleep_unless_the_user_says_otherwise(given: dict[str, str], found: str | None) -> None:
    script = (
        "import os, sys\nfrom equivox.cli.app import main\nassert 'torch' not in sys.modules\n"
        "try:\n    main()\nexcept SystemExit:\n    print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    environment = {key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    command = [sys.executable, "-c", script, "--version"]
    done = subprocess.run(command, env=environment | given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(found)


def test_an_output_that_cannot_hold_a_sign_gets_its_code() -> None:
    script = (
        "from equivox.cli import app as command_line\nfrom equivox.cli.output import say\n"
        "command_line.app = lambda: say('\\u22121.5')\ncommand_line.main()"
    )
    narrow = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", script], env=narrow, capture_output=True, text=True, check=True)
    assert done.stdout == "\\u22121.5\n"


def test_a_command_that_is_ended_from_outside_takes_away_what_it_has_half_written(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom equivox.atomic import atomic_path\n"
        "from equivox.cli import app as command_line\n"
        "def slow():\n"
        "    with atomic_path(Path(sys.argv[1]) / 'map.nii.gz'):\n"
        "        print('begun', flush=True)\n        time.sleep(60)\n"
        "command_line.app = slow\ncommand_line.main()"
    )
    started = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "begun\n"
    started.terminate()
    started.stdout.close()
    assert started.wait(timeout=30) == 143
    assert list(tmp_path.iterdir()) == []
