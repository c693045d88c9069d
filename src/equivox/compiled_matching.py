"""The compiled Betti matching of the package topolosses, without the package itself."""

import functools
import importlib.util
import itertools
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path
from typing import Any

from equivox.errors import InputError


@functools.cache
def compiled_matching() -> Any:
    """Load the compiled part of the package topolosses alone: the package itself imports torchvision.

    Returns:
        A module with ``compute_matching`` and ``compute_barcode``.

    Raises:
        InputError: If it is not installed.
    """
    package = importlib.util.find_spec("topolosses")
    folders = package.submodule_search_locations or [] if package is not None else []
    inside = Path("losses", "betti_matching", "src")
    for folder, suffix in itertools.product(folders, EXTENSION_SUFFIXES):
        file = Path(folder) / inside / f"betti_matching{suffix}"
        if file.is_file():
            # Under the name that the package gives it, so that both share it where the package is imported too.
            loader = ExtensionFileLoader("topolosses.losses.betti_matching.src.betti_matching", str(file))
            spec = importlib.util.spec_from_loader(loader.name, loader)
            if spec is not None:
                module = importlib.util.module_from_spec(spec)
                loader.exec_module(module)
                return module
    msg = "Betti matching: expected the compiled part of topolosses, got none; pip install 'equivox[topology]'"
    raise InputError(msg)
