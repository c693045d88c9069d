"""What this machine has: processor, memory, graphics card, packages."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil

from equivox.options import Options

REQUIRED = ("torch", "monai", "nibabel", "SimpleITK", "nnunetv2", "itk-elastix", "blosc2", "pydicom")
EXTRAS = {
    "surface-distance": "benchmarks of our metrics against it (pip install 'equivox[benchmarks]')",
    "medpy": "benchmarks of our metrics against it (pip install 'equivox[benchmarks]')",
}


class Findings(Options):
    """What `examine` found.

    Attributes:
        sound: False where something that Equivox needs is missing or broken.
        machine: Processor, memory and graphics card, in words.
        packages: Package -> version, or None where it is missing.
        extras: Package -> version, or None, and what it would add.
        problems: One line each, with what to do.
    """

    sound: bool
    machine: dict[str, str]
    packages: dict[str, str | None]
    extras: dict[str, tuple[str | None, str]]
    problems: tuple[str, ...]


def examine() -> Findings:
    """Look at the machine and the installed packages."""
    packages = {name: _version(name) for name in REQUIRED}
    problems = [f"{name} is missing; run 'pip install equivox' again" for name, found in packages.items() if not found]
    machine = _machine()
    if packages["torch"]:
        machine |= _torch_facts()
        problems += _torchvision_problems()
    extras = {name: (_version(name), purpose) for name, purpose in EXTRAS.items()}
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    extras["chromium"] = (browser and "found", "tests of the report in a browser")
    return Findings(sound=not problems, machine=machine, packages=packages, extras=extras, problems=tuple(problems))


def _machine() -> dict[str, str]:
    import psutil

    memory = psutil.virtual_memory()
    return {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free",
        "disk here": f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free",
    }


def _torch_facts() -> dict[str, str]:
    import torch

    facts = {
        "torch threads": str(torch.get_num_threads()),
        "processor features": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts["graphics card"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    else:
        facts["graphics card"] = "none; training and prediction run on the processor"
    return facts


def _torchvision_problems() -> list[str]:
    """Find a torchvision that was made for another torch: installing it replaces torch without a word."""
    if not importlib.util.find_spec("torchvision"):
        return []
    needed = [item for item in importlib.metadata.requires("torchvision") or [] if item.startswith("torch==")]
    torch_version = importlib.metadata.version("torch").partition("+")[0]
    if needed and needed[0].removeprefix("torch==").split(";")[0].strip() != torch_version:
        found = importlib.metadata.version("torchvision")
        return [
            f"torchvision {found} needs {needed[0]}, but torch is {torch_version}; "
            "install with 'pip install -c constraints.txt .'"
        ]
    return []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
