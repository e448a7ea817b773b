"""What "the same result" means, and whether the forms of a model agree."""
