"""The appliance's own programs, as tests import them: from the folder that becomes the image's."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FIRMWARE = Path(__file__).resolve().parents[1] / "firmware"
FOLDERS = {"root": FIRMWARE / "root" / "usr" / "lib" / "mycoswarm", "kit": FIRMWARE / "kit"}


def load(name: str, folder: str = "root") -> ModuleType:
    """A program's module. They import each other by name, as beside each other in one folder."""
    place = str(FOLDERS[folder])
    if place not in sys.path:
        sys.path.append(place)
    return importlib.import_module(name)
