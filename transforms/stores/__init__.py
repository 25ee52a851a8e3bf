"""Files on disks and object stores: names, whole-or-nothing writing, and a circuit breaker for stores that fail."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
