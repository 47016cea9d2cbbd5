"""Runs Nuitka in this machine's Python, which passes for the other machine's: an emulated one takes 13 times as long.

Started within the other machine's system and with that one's standard library. What Nuitka asks of the Python that runs
it is told here as the other would: the kind of machine, the endings of extension modules, how it was built. All else is
the same in both: the version, down to the last digit, and the modules that Debian builds into it.

    python3.11 -X frozen_modules=off -S guise.py MACHINE PYTHON FOLDER... -- WORDS...

PYTHON is the other machine's, emulated: it is asked what packages say of themselves, since only it can import them.
"""

import importlib.machinery
import os
import runpy
import sys
import sysconfig
import types


class Elsewhere:
    """`sys` as those parts of Nuitka see it that start a Python to import a package."""

    def __init__(self, executable: str) -> None:
        self.executable = executable

    def __getattr__(self, name: str) -> object:
        return getattr(sys, name)


def main() -> None:
    """Become the other machine's Python, then Nuitka."""
    machine, python, *rest = sys.argv[1:]
    folders, words = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    # This machine's own extension modules: they end otherwise than the other's, so Nuitka does not see them.
    own = os.environ["PYTHONPATH"]
    label = f"cpython-{sys.version_info.major}{sys.version_info.minor}-{machine}-linux-gnu"
    importlib.machinery.EXTENSION_SUFFIXES = [f".{label}.so", ".abi3.so", ".so"]
    here = os.uname()
    there = os.uname_result((here.sysname, here.nodename, here.release, here.version, machine))
    os.uname = lambda: there
    # Read once and kept; programs that are started from here must not ask for it.
    os.environ["_PYTHON_SYSCONFIGDATA_NAME"] = f"_sysconfigdata__{machine}-linux-gnu"
    assert sysconfig.get_config_var("EXT_SUFFIX") == f".{label}.so"
    del os.environ["_PYTHON_SYSCONFIGDATA_NAME"]
    sys.path[:] = [*folders, *(each for each in sys.path if each.startswith("/usr/lib/")), own]
    sys.argv = ["nuitka", *words]
    # Imported by Nuitka itself, for these names alone; the real one is machine code of the other kind.
    named = ("AIX", "BSD", "FREEBSD", "LINUX", "MACOS", "NETBSD", "OPENBSD", "OSX", "POSIX", "SUNOS", "WINDOWS")
    sys.modules["psutil"] = psutil = types.ModuleType("psutil")
    for name in named:
        setattr(psutil, name, name in ("LINUX", "POSIX"))
    from nuitka.plugins import PluginBase  # noqa: PLC0415  # found only now

    PluginBase.sys = Elsewhere(python)
    runpy.run_module("nuitka", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
