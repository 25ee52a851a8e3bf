"""What mien knows about faces: numpy and torch in, numpy and bytes out. Never imports Beam.

Each name is loaded when it is first used: torch takes seconds to load.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
