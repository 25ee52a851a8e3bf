"""The neural face codec: an aligned face to at most 320 bytes and back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
