"""What a benchmark ran on: every result carries it."""

import importlib.metadata
import os
import platform
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def describe_machine(*packages: str, device: str = "cpu") -> dict[str, str]:
    """Return processor, cores, memory, system, Python, and the versions of equivox, torch, numpy and `packages`.

    Where `device` is ``cuda``, the graphics card comes first.
    """
    import psutil

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"graphics card": card_name()} if device == "cuda" else {}
    facts |= {
        "processor": model,
        "cores": str(cores),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for package in ("equivox", "torch", "numpy", *packages):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def card_name() -> str:
    """Return the name of the graphics card."""
    import torch

    return torch.cuda.get_device_name()


def result_name(name: str, device: str) -> str:
    """Return the name of a result's files: those of a graphics card lie beside those of the processor.

    Example:
        >>> result_name("predict", "cpu"), result_name("predict", "cuda")
        ('predict', 'predict_cuda')
    """
    return name if device == "cpu" else f"{name}_{device}"


def machine_line(facts: dict[str, str]) -> str:
    """Return the facts as one line for the head of a table."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())
