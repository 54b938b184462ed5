"""Models that see: they classify, detect, segment, and estimate depth; one module a task."""
