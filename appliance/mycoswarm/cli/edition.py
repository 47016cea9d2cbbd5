"""`version`."""

import importlib.metadata
import platform

import click

from mycoswarm.cli.screen import guarded, say, show_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@guarded
def version(as_json: bool) -> None:
    """Show the versions of this program and of what it stands on."""
    found = {
        "mycoswarm": _installed("mycoswarm"),
        "llama-cpp-python": _installed("llama_cpp_python"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if as_json:
        show_json(found)
    else:
        say(
            f"mycoswarm-node {found['mycoswarm']} (llama-cpp-python {found['llama-cpp-python']}, "
            f"Python {found['python']}, {found['system']})"
        )


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
