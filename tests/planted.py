"""A model that finds one cat in every image, for tests of what lies around the network."""

from __future__ import annotations

import numpy as np

from tests.onnx_graphs import save_planted_model
from tests.specs import grid_spec

# Prior 5 of the 4 x 4 grid is row 1, column 1: the box (0.275, 0.275, 0.475, 0.475) of any image.
_PRIORS, _CAT_PRIOR = 16, 5


def save_cat_model(folder, name="cat", loc=0.0, **options):
    """Writes NAME.onnx and NAME.json: classes cat and dog, 100 x 100 input, 0.9999 for the cat.

    loc: every offset.   options: of `save_planted_model`. Returns the path of the ONNX file.
    """
    spec = grid_spec(4, 4, name=name, mean=(0, 0, 0))
    conf = np.zeros((_PRIORS, 3), np.float32)
    conf[:, 0] = 10  # background
    conf[_CAT_PRIOR] = 0, 10, 0
    return save_planted_model(folder, np.full((_PRIORS, 4), loc, np.float32), conf, spec, **options)
