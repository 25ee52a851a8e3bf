"""Beam transforms: those that a user imports, and beneath them the stages, sources, sinks and formats they are made of.

Each name is loaded when it is first used, so that this import stays light.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
