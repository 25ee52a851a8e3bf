"""What mien sees of the faces in a photo: where they are, how they are turned and lit, and whose they are."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
