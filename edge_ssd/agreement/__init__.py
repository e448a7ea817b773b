"""What "the same result" means, and whether the variants of a model agree."""
