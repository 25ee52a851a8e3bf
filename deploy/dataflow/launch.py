"""What Dataflow's template launcher starts in the image (FLEX_TEMPLATE_PYTHON_PY_FILE)."""

import sys

from mien.pipelines.template import main

if __name__ == "__main__":
    sys.exit(main())
