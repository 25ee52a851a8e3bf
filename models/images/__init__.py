"""Picture files: reading and writing them, their headers and metadata, and the chunk that holds coded faces."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
