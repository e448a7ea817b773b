"""CUDA kernels and their CuPy launchers, installed as edge_ssd.kernels. None is written yet: the CPU path
(`edge_ssd.reference`) defines what each of them has to compute."""
