"""One run of a job: the engine, what is left to do, the lock, the record, the progress."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
