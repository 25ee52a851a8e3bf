"""The magnifier: a face of 8 to 256 pixels to one of 512 that shrinks to the same pixels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
