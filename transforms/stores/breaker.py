"""A store that has gone away costs a job some minutes, and not some minutes for each photo.

A store's client tries again by itself, Google's for two minutes, before it says that there is no connection. When that
has happened a few times in a row, what is asked of that store fails at once for a while; then it is tried again.
"""

import contextlib
import time
from collections.abc import Iterator

from mien.models.errors import StoreAwayError
from mien.transforms.stores.names import is_local

_LONG = (
    5.0  # seconds after which a failure is no refusal (there is no such object, you may not) but a client's patience
)
_TIMES, _PAUSE = 3, 60.0  # failures in a row; seconds

_failed: dict[str, int] = {}  # of each store, in this process
_until: dict[str, float] = {}


@contextlib.contextmanager
def circuit_breaker(uri: str) -> Iterator[None]:
    """Around what is asked of the store that uri lies in. StoreAwayError where it is not asked for now."""
    if is_local(uri):
        yield
        return
    store = "/".join(uri.split("/")[:3])
    if time.monotonic() < _until.get(store, 0.0):
        raise StoreAwayError(f"{store} did not answer {_failed[store]} times in a row: not tried for some time")
    started = time.monotonic()
    try:
        yield
    except Exception:
        now = time.monotonic()
        _failed[store] = _failed.get(store, 0) + 1 if now - started > _LONG else 0
        if _failed[store] >= _TIMES:
            _until[store] = now + _PAUSE
        raise
    _failed[store] = 0
