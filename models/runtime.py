"""Threads and memory of this process. Call tune_process() once in a worker, before the first picture."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

# malloc.h of glibc. By default every big tensor is mapped and given back again: 3 to 5 times slower on a busy machine.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEPT, PAD = 512 << 20, 64 << 20  # bytes that stay with the process; bytes by which its heap grows


def tune_process(threads: int) -> None:
    """Sets torch's and OpenCV's threads, and keeps glibc's malloc from mapping anew what it frees.

    ValueError below 1 thread.
    """
    if threads < 1:
        raise ValueError(f"a process needs at least 1 thread, not {threads}")
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # read when OpenMP is loaded: threads that wait leave the core to others
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    with contextlib.suppress(OSError, AttributeError):  # another C library: slower, and as right
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, PAD)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums are then added in one order, so that results are equal to the last bit."""
    import torch

    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; without them bfloat16 is slower than float32."""
    import torch

    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def cores() -> int:
    """The cores that this process may use: those that it is bound to, and no more than OMP_NUM_THREADS allows."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(found, max(1, int(allowed))) if allowed.isdecimal() else found
