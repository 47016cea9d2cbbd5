"""Nuitka's plugin for this project: our own modules become machine code, all others stay bytecode.

Everything compiled would be 544 C files, one of them 18 MB, and hours; this way it is our own modules alone.
"""

from nuitka.plugins.PluginBase import NuitkaPluginBase

OURS = "mycoswarm"


class OursAlone(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka has no types
    """Decides by a module's first name."""

    plugin_name = "ours-alone"
    plugin_desc = "Compile our own modules and no others."

    def decideCompilation(self, module_name: str) -> str:  # noqa: N802  # Nuitka's name
        """Asked of each module but the main one."""
        first = str(module_name).partition(".")[0]
        # Names in underscores are Nuitka's own forms of the main module.
        return "compiled" if first == OURS or first.startswith("__") else "bytecode"
