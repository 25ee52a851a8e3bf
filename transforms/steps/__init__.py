"""One stage of the photo's way per file, in this order: decode, detect, people, decide, align, code faces or new faces,
background; verify looks a second time at what is to be written.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
