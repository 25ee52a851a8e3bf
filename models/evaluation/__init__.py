"""What `mien evaluate` measures: faces in, numbers out. Knows no Beam, no MediaPipe and no files but its own.

lpips, descriptors and metrics say how like two pictures are, peers what conventional codecs make of a few bytes,
measure writes, reads back and compares, summary adds up. Training uses lpips from here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
