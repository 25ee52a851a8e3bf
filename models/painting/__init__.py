"""Putting faces into a photo and taking them out: inpainting, blending, replacing and stamping."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
