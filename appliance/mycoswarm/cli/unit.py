"""What a service manager is told about the daemon, as text: a systemd unit, a launchd job. Pure.

Covered by the system's unit: the daemon is nobody who logs in, has no capabilities and gains none, writes to its own
two folders only, sees no home, loads no kernel module, and sees of the devices the graphics cards alone. Not covered:
memory that is both writable and executable stays allowed, because GPU drivers and Python's callbacks into C make some;
namespaces and mounts stay allowed, because the sandbox for tools is made of them; the network is the egress guard's and
the packet filter's part (docs/egress.md).
"""

import plistlib
from collections.abc import Sequence
from pathlib import Path

NAME = "mycoswarm"
LABEL = "org.mycoswarm.node"
DATA = Path("/var/lib/mycoswarm")
CACHE = Path("/var/cache/mycoswarm")
CARD_GROUPS = ("video", "render")  # who may use graphics cards, where a system has such groups
# In any unit, also a person's own, whose manager may not do more.
_ALWAYS = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
LimitCORE=0
UMask=0077
"""
_SYSTEM = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
SystemCallFilter=@system-service @mount
SystemCallErrorNumber=EPERM
DevicePolicy=closed
DeviceAllow=char-drm rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=/dev/kfd rw
"""


def system_unit(program: Path, groups: Sequence[str]) -> str:
    """The unit of a whole machine. `groups`: those of `CARD_GROUPS` that there are; a missing one stops a unit."""
    more = f"SupplementaryGroups={' '.join(groups)}\n" if groups else ""
    own = (
        f"User={NAME}\nGroup={NAME}\n{more}"
        f"StateDirectory={NAME}\nStateDirectoryMode=0700\nCacheDirectory={NAME}\nCacheDirectoryMode=0700\n"
        f"Environment=HOME={DATA} XDG_CACHE_HOME={CACHE} LC_ALL=C.UTF-8\n"
    )
    return _unit(program, DATA, own + _ALWAYS + _SYSTEM, "multi-user.target")


def user_unit(program: Path, data: Path) -> str:
    """The unit of one person's own service manager."""
    return _unit(program, data, _ALWAYS, "default.target")


def _unit(program: Path, data: Path, own: str, target: str) -> str:
    return (
        "# Written by `mycoswarm-node service install`; `service uninstall` takes it away.\n"
        "[Unit]\n"
        "Description=mycoSwarm node\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "StartLimitIntervalSec=300\n"
        "StartLimitBurst=10\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        f"ExecStart={quoted(program)} --data {quoted(data)} run\n"
        # Told to stop: the program alone, which ends its stages; what is left after that is killed with it.
        "KillMode=mixed\n"
        "TimeoutStopSec=20\n"
        "Restart=on-failure\n"
        "RestartSec=2\n"
        "OOMPolicy=continue\n"  # a stage that takes too much memory dies alone
        f"{own}"
        "\n"
        "[Install]\n"
        f"WantedBy={target}\n"
    )


def quoted(path: Path) -> str:
    """A path as one word of a unit: systemd.service(5) "Command lines" and systemd.unit(5) "Specifiers"."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if any(sign in text for sign in " \t'\"\\;") else text


def launchd_job(program: Path, data: Path, log: Path) -> bytes:
    """The job of one person on a Mac. Not tried on one."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [str(program), "--data", str(data), "run"],
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": 20,
            "Umask": 0o077,
            "ProcessType": "Standard",
            "StandardErrorPath": str(log),
            "EnvironmentVariables": {"LC_ALL": "en_US.UTF-8"},
        }
    )
