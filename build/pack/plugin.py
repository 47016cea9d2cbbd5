"""Nuitka's plugin for this project: our own modules become machine code, all others stay bytecode.

Everything compiled would be 544 C files, one of them 18 MB, and hours; this way it is our own modules alone. Of those,
the rooms whose work is done once for a command, a tool or a start stay bytecode too: machine code would only be more to
download, and to hold in memory.
"""

import functools

from nuitka.plugins.PluginBase import NuitkaPluginBase

OURS = "mycoswarm"
SELDOM = ("agents", "cli", "daemon", "hardware", "sandbox", "servers")


class OursAlone(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka has no types
    """Decides by a module's first name."""

    plugin_name = "ours-alone"
    plugin_desc = "Compile our own modules and no others."

    def decideCompilation(self, module_name: str) -> str:  # noqa: N802  # Nuitka's name
        """Asked of each module."""
        _answer_for_cached()
        first, _, rest = str(module_name).partition(".")
        if first == OURS and rest.partition(".")[0] not in SELDOM:
            return "compiled"
        # Names in underscores are Nuitka's own forms of the main module.
        return "compiled" if first.startswith("__") else "bytecode"

    def getPreprocessorSymbols(self, onefile: bool) -> dict[str, str]:  # noqa: N802  # Nuitka's name
        """Have the outer program become the inner one, where it would fork and wait for it.

        Nuitka's C code runs the inner program where `fork` gives 0, and `sched_yield` gives 0 always. So there is one
        process: signals reach it, its memory is its own, and nobody is left behind by a kill. Nuitka asks once, for
        both programs; the C code of the inner one does not fork.
        """
        return {"fork": "sched_yield"}


@functools.cache
def _answer_for_cached() -> None:
    """Nuitka 4.3.3 asks this of modules that it takes from its cache of bytecode, and ends because nobody answers."""
    from nuitka.nodes.ModuleNodes import UncompiledPythonModule  # noqa: PLC0415  # too early at the top: options are not read

    if not hasattr(UncompiledPythonModule, "getCompilationMode"):
        UncompiledPythonModule.getCompilationMode = lambda _module: "cached"  # not "bytecode": its source is not wanted
