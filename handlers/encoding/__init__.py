"""Models that read a whole input at once: embedding texts and pictures, ranking pairs of texts."""
