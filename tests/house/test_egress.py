"""Every process of ours puts the egress guard over itself before it does anything else; nobody goes around it."""

import ast

from house.tree import modules


def test_every_program_installs_the_guard_first_of_all() -> None:
    programs, wrong = 0, []
    for module in modules():
        if not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in module.tree.body):
            continue
        programs += 1
        # A click group is called as the program, so its `__call__` is the main there.
        mains = [
            node
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef) and node.name in ("main", "__call__") and not node.decorator_list
        ]
        first = ast.unparse(mains[0].body[1]) if len(mains) == 1 else "no single main"
        if "install(Guard(" not in first:
            wrong.append(f"{module.name}: {first}")
    assert programs == 8 and not wrong


def test_only_programs_install_a_guard() -> None:
    """A second guard over a process would refuse what only the first has a permit for."""
    calls = {
        module.name: sum(isinstance(n, ast.Call) and ast.unparse(n.func) == "install" for n in ast.walk(module.tree))
        for module in modules()
    }
    assert {name: count for name, count in calls.items() if count} == {
        "mycoswarm.catalog.inspection": 1,
        "mycoswarm.cli.entry": 1,
        "mycoswarm.hardware.bandwidth": 1,
        "mycoswarm.hardware.devices": 1,
        "mycoswarm.sandbox.runner": 1,
        "mycoswarm.sandbox.prover": 1,
        "mycoswarm.sandbox.turnkey": 1,
        "mycoswarm.stage.process": 1,
    }


def test_nothing_uses_the_sockets_beneath_the_guard() -> None:
    """`_socket.socket` looks names up before its audit event, and a plain uvloop connects without one."""
    around = [
        f"{module.name}:{line} {name}"
        for module in modules()
        for name, line in module.imports()
        if name.split(".")[0] == "_socket"
    ]
    loops = {module.name for module in modules() for name, _ in module.imports() if name.split(".")[0] == "uvloop"}
    assert not around and loops == {"mycoswarm.stage.fence", "mycoswarm.stage.process"}
    (process,) = (module for module in modules() if module.name == "mycoswarm.stage.process")
    runs = [n for n in ast.walk(process.tree) if isinstance(n, ast.Call) and ast.unparse(n.func).startswith("uvloop.")]
    assert [ast.unparse(call) for call in runs] == ["uvloop.run(work, loop_factory=FencedLoop)"]
