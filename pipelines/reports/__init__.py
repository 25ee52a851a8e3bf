"""Pages about runs and outputs: evaluate, audit, report."""
