"""Forks the children of a job on this machine from one process that has loaded what all of them need.

A child that is started loads code and models for some seconds, into memory of its own; one that is forked has them at
once, and shares them with the others. `mien` starts the server beside its own loading (mien.pipelines.cli). On other
engines, from Python, and where the system has no pidfds (Linux has), each child loads for itself.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

ADDRESS = "MIEN_FORK_SERVER"  # in the environment of a job and its workers: the server's socket
_CODE = """import sys
from mien.transforms.workers.fork_server import serve_forks
serve_forks(int(sys.argv[1]), sys.argv[2])"""
START_SECONDS = 300.0  # to load everything, on a machine that has much else to do
_NUMBER = struct.Struct("<q")  # a process id, then its exit status
_REQUEST_BYTES = 1 << 16


@contextlib.contextmanager
def fork_server(preload: str) -> Iterator[None]:
    """A server for this process and those that it starts, until the end of the `with`; none where there can be none.

    preload: the module whose load() the server calls before it forks a child: when it is first asked for one, or woken
    (wake_fork_server), for a job that finds nothing left to do needs none of it.
    """
    with contextlib.ExitStack() as stack:
        started = None
        with contextlib.suppress(OSError):  # no room for a socket, or too long a path to it
            started = _started(stack, preload)
        if started is None:
            yield
            return
        address, server = started
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            server.terminate()  # its children end with it
            server.wait()


def _started(stack: contextlib.ExitStack, preload: str) -> tuple[str, subprocess.Popen[bytes]]:
    """The server's address, which goes with the stack, and the server. OSError."""
    if not hasattr(os, "pidfd_open"):
        raise OSError("this system has no pidfds")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-"))
    address = os.path.join(folder, "forks")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        words = [sys.executable, "-P", "-c", _CODE, str(listener.fileno()), preload]
        environment = child_environment(import_path())
        server = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])
    return address, server


def wake_fork_server() -> None:
    """Lets the server load what its children will need, if there is a server."""
    if address := os.environ.get(ADDRESS):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as control:
            control.connect(address)  # which is request enough; it asks for no child


def import_path() -> str:
    """Where this process imports from, as PYTHONPATH has it."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def child_environment(path: str) -> dict[str, str]:
    """The environment of a process that works on photos and imports from path."""
    # torch's threads would otherwise spin while they wait, and take the processor from other photos
    return os.environ | {"PYTHONPATH": path, "OMP_WAIT_POLICY": "passive"}


class Forked:
    """A forked child, as far as subprocess.Popen's methods are needed of it."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._control = control

    def kill(self) -> None:
        """Ends it; nothing where it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, minus the signal that ended it. subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._control.settimeout(timeout)
            try:
                self.returncode = _receive(self._control)
            except TimeoutError:
                raise subprocess.TimeoutExpired("a forked child", timeout or 0.0) from None
            except OSError:  # the server has ended, and its children with it
                self.returncode = -signal.SIGKILL
            self._control.close()
        return self.returncode


def fork(descriptor: int, path: str, level: int) -> Forked | None:
    """A child that serves the connection (mien.transforms.workers.isolate.serve), imports from path; None without a
    server.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        return None
    control = socket.socket(socket.AF_UNIX)
    try:
        control.settimeout(START_SECONDS)
        control.connect(address)
        socket.send_fds(control, [json.dumps([path, level]).encode()], [descriptor])
        return Forked(control, _receive(control))
    except OSError:  # it has ended: a child can do without
        control.close()
        return None


def _receive(control: socket.socket) -> int:
    """A number. ConnectionError where the other side has hung up."""
    data = control.recv(_NUMBER.size, socket.MSG_WAITALL)
    if len(data) < _NUMBER.size:
        raise ConnectionError("the fork server has ended")
    number: int = _NUMBER.unpack(data)[0]
    return number


def serve_forks(descriptor: int, preload: str) -> None:
    """The server's whole life: calls the module's load(), forks a child for each request, and tells how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which ends this process
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    parent = os.getppid()
    listener = socket.socket(fileno=descriptor)
    while not select.select([listener], [], [], 1.0)[0]:
        if os.getppid() != parent:
            return
    with contextlib.suppress(Exception):  # what is wrong is told by the children, who need it
        importlib.import_module(preload).load()
    gc.collect()
    gc.freeze()  # pages that no later collection writes to stay shared
    from mien.transforms.workers.isolate import serve

    children: dict[int, tuple[socket.socket, int]] = {}  # control and id, by pidfd
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    try:
        while os.getppid() == parent:
            for key, _ in selector.select(1.0):
                if selector.get_map().get(key.fd) is not key:  # its child's end, in this same round, took it away
                    continue
                if key.fileobj is listener:
                    try:
                        control = listener.accept()[0]
                    except OSError:  # who asked has gone, or too many files are open
                        continue
                    held: list[socket.socket] = [listener, control, *(other for other, _ in children.values())]
                    if pid := _forked(control, [selector, *held], serve):
                        try:
                            pidfd = os.pidfd_open(pid)
                        except OSError:
                            os.kill(pid, signal.SIGKILL)
                            os.waitpid(pid, 0)
                            control.close()
                            continue
                        children[pidfd] = control, pid
                        selector.register(pidfd, selectors.EVENT_READ)
                        selector.register(control, selectors.EVENT_READ, pid)
                elif key.data is not None:  # who asked for it has ended, or wants no more of it
                    selector.unregister(key.fileobj)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(key.data, signal.SIGKILL)
                else:
                    pidfd = key.fd
                    control, pid = children.pop(pidfd)
                    selector.unregister(pidfd)
                    os.close(pidfd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with contextlib.suppress(KeyError):
                        selector.unregister(control)
                    with control, contextlib.suppress(OSError):
                        control.sendall(_NUMBER.pack(code))
    finally:
        for _, pid in children.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # so that what they used is counted


def _forked(
    control: socket.socket,
    held: Sequence[selectors.BaseSelector | socket.socket],
    serve: Callable[[int, int], None],
) -> int:
    """The id of a new child; 0 where the request was none or the system has no room for one. held: what the child must
    not keep open."""
    descriptors: Sequence[int] = ()
    try:
        control.settimeout(10)
        message, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 1)
        path, level = json.loads(message)
        (descriptor,) = descriptors
        pid = os.fork()
    except (OSError, TypeError, ValueError):
        for received in descriptors:
            os.close(received)
        control.close()
        return 0
    if pid:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # who asked has gone: the end of control, seen next, ends the child
            control.sendall(_NUMBER.pack(pid))
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for one in held:
            one.close()
        sys.path[:] = path.split(os.pathsep)
        serve(descriptor, level)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)
