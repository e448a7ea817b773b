"""Facts about the machine that this runs on: CPU, GPU, energy, versions."""
