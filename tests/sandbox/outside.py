"""What a process of this machine could reach, and a program that tries to reach each of it."""

import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandbox.conftest import Room
from sandbox.lodger import USER, room_of_its_own

# On some machines these are closed to everybody: by Yama, or by a file system that has no attributes.
DEPENDING = {"trace", "read its memory", "set an attribute", "map a shared file"}
# What each would do. `w` is the table of `outside`.
TRIES = {
    "read": "open(w['file']).read()",
    "write": "open(w['file'], 'a')",
    "make": "open(w['folder'] + '/made', 'w')",
    "make a folder": "os.mkdir(w['folder'] + '/folder')",
    "list": "os.listdir(w['folder'])",
    "remove": "os.unlink(w['folder'] + '/gone')",
    "move in": "os.rename(w['folder'] + '/moved', 'moved')",
    "move out": "(open('mine', 'w'), os.rename('mine', w['folder'] + '/mine'))",
    "link in": "os.link(w['file'], 'linked')",
    "follow a link": "(os.symlink(w['file'], 'to'), open('to').read())",
    "follow a link to a folder": "(os.symlink(w['folder'], 'up'), os.listdir('up'))",
    "truncate": "os.truncate(w['folder'] + '/cut', 0)",
    "run": "os.posix_spawn(w['folder'] + '/program', ['program'], {})",
    "set the mode": "os.chmod(w['file'], 0o777)",
    "set the mode of a folder": "os.chmod(w['folder'], 0o777)",
    "set the mode by a descriptor": "os.fchmod(os.open(w['file'], os.O_RDONLY), 0o777)",
    "set the owner": "os.chown(w['file'], -1, os.getgid())",
    "set the times": "os.utime(w['file'])",
    "set an attribute": "os.setxattr(w['file'], 'user.x', b'x')",
    "watch": "done(libc.inotify_add_watch(libc.inotify_init(), w['folder'].encode(), 256))",
    "write in /tmp": "open('/tmp/' + w['name'] + '-made', 'w')",
    "write in /dev/shm": "open('/dev/shm/' + w['name'], 'w')",
    "read accounts": "open('/etc/passwd').read()",
    "list processes": "os.listdir('/proc')",
    "read its environment": "open(f'/proc/{w[\"process\"]}/environ').read()",
    "read its memory": "open(f'/proc/{w[\"process\"]}/mem', 'rb')",
    "go through its root": "os.listdir(f'/proc/{w[\"process\"]}/root/etc')",
    "go through one's own root": "open('/proc/self/root/etc/passwd')",
    "signal": "os.kill(w['process'], 0)",
    "signal by a descriptor": "signal.pidfd_send_signal(os.pidfd_open(w['process']), 0)",
    "set its limits": "resource.prlimit(w['process'], resource.RLIMIT_CORE, (0, 0))",
    "set its priority": "os.setpriority(os.PRIO_PROCESS, w['process'], 19)",
    "set its processors": "os.sched_setaffinity(w['process'], {0})",
    "set its schedule": "os.sched_setscheduler(w['process'], os.SCHED_BATCH, os.sched_param(0))",
    "trace": "done(libc.ptrace(16, w['process'], 0, 0))",
    "connect by TCP": "socket.create_connection(('127.0.0.1', w['tcp']), 2)",
    "listen on TCP": "socket.create_server(('127.0.0.1', 0))",
    "send by UDP": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', w['udp']))",
    "ask the kernel": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "connect to a path": "socket.socket(socket.AF_UNIX).connect(w['socket'])",
    "connect to a name": "socket.socket(socket.AF_UNIX).connect(chr(0) + w['name'])",
    "send to a path": "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', w['datagrams'])",
    "attach memory": "done(libc.shmat(w['memory'], None, 0))",
    "send a message": "done(libc.msgsnd(w['messages'], (1).to_bytes(8, 'little') + b'x', 1, 2048))",
    "open a queue": "done(libc.mq_open(b'/' + w['name'].encode(), 2))",
    "have namespaces": "done(libc.unshare(0x10000000))",
    "map a shared file": "mmap.mmap(os.open(w['file'], os.O_RDWR), 1)",
}
_PROGRAM = """
import ctypes, json, mmap, os, resource, signal, socket
libc = ctypes.CDLL(None)
def done(answer):
    if answer == -1: raise OSError
w = json.loads({table!r})
for name, code in json.loads({tries!r}).items():
    try:
        eval(code)
    except OSError:
        continue
    print(name)
"""


@contextmanager
def outside() -> Iterator[dict[str, str | int]]:
    """Files, a process, sockets and shared memory of the lodger's, open to everybody of this machine."""
    libc = ctypes.CDLL(None)
    with ExitStack() as stack:
        folder = stack.enter_context(room_of_its_own())
        for name in ("file", "gone", "moved", "cut", "program"):
            (folder / name).write_text("#!/bin/sh\n", "ascii")
        name = folder.name
        sleeper = stack.enter_context(subprocess.Popen(["sleep", "120"], user=USER, group=USER, extra_groups=[]))
        stack.callback(sleeper.kill)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for kind, place in ((1, f"{folder}/socket"), (1, f"\0{name}"), (2, f"{folder}/datagrams")):
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            listening.bind(place)
            if kind == 1:
                listening.listen()
        memory, messages = libc.shmget(0, 4096, 0o1666), libc.msgget(0, 0o1666)
        stack.callback(libc.shmctl, memory, 0, None)
        stack.callback(libc.msgctl, messages, 0, None)
        queue = libc.mq_open(b"/" + name.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
        os.fchmod(queue, 0o666)
        stack.callback(os.close, queue)
        stack.callback(libc.mq_unlink, b"/" + name.encode())
        stack.callback(Path(f"/tmp/{name}-made").unlink, missing_ok=True)
        stack.callback(Path(f"/dev/shm/{name}").unlink, missing_ok=True)
        for path in (folder, *folder.iterdir()):
            os.chown(path, USER, USER)
            path.chmod(0o777)
        assert min(memory, messages, queue) >= 0
        yield {
            "folder": str(folder),
            "file": f"{folder}/file",
            "name": name,
            "process": sleeper.pid,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "socket": f"{folder}/socket",
            "datagrams": f"{folder}/datagrams",
            "memory": memory,
            "messages": messages,
        }


def reached(room: Room, table: dict[str, str | int], **more: bool) -> set[str]:
    """What a tool in this room can reach."""
    code = _PROGRAM.format(table=json.dumps(table), tries=json.dumps(TRIES))
    ended = room.python(code, **more)
    assert ended.ok, ended
    return set(ended.text.splitlines())
