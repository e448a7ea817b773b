"""What a file from elsewhere may cost before it is refused: every budget of the package, in one place.

Each is far above what an honest file needs. Three can be raised by the user, through an environment variable that the
error names.
"""

from __future__ import annotations

import os

# Pixels of one image, from its header: 100 megapixels are 300 MB in memory. EDGE_SSD_MAX_MEGAPIXELS.
MEGAPIXELS_VARIABLE = "EDGE_SSD_MAX_MEGAPIXELS"
_MEGAPIXELS = 100.0

# Seconds that a model from elsewhere may take to open, and one more for each so many bytes. EDGE_SSD_LOAD_SECONDS.
LOAD_SECONDS_VARIABLE = "EDGE_SSD_LOAD_SECONDS"
_LOAD_SECONDS = 10.0
_BYTES_PER_LOAD_SECOND = 20_000_000

# Memory that its opening may take, gigabytes (EDGE_SSD_LOAD_GIGABYTES), and beside that: ten times the file, which
# engines unpack and lay out anew; for each pixel of its input what a network of 64 wide feature maps keeps; of an input
# that has few priors for its pixels, for each prior what four pixels get.
LOAD_GIGABYTES_VARIABLE = "EDGE_SSD_LOAD_GIGABYTES"
_LOAD_GIGABYTES = 0.6
_LOADS_OF_FILE, _BYTES_PER_PIXEL, _BYTES_PER_PRIOR = 10, 4096, 16384

# Memory that decoding an image may take, bytes for each pixel that is allowed: that of one with an alpha channel. Scans
# of a JPEG that has as many pixels; smaller ones may have more, and usual are 10. Tags of a TIFF.
MOST_DECODING_BYTES = 7
MOST_JPEG_SCANS = 20
MOST_TIFF_TAGS = 4096

# An image file: a PNG of 100 megapixels of noise has 300 MB.
MOST_IMAGE_BYTES = 1 << 30

# A spec, a manifest, a history: the longest ones known have some 100 KB.
MOST_JSON_BYTES = 16 << 20

# What describes a model: names of its classes, pipeline.config, deploy.prototxt, a configuration in Python, which have
# some 100 KB at most; and the values of such a configuration, with those that it names again.
MOST_DESCRIPTION_BYTES = 1 << 20
MOST_DESCRIPTION_VALUES = 100_000

# Of a whole number in JSON: more than any float has, and converted in no time.
MOST_DIGITS = 1000

# The annotations of a data set: those of COCO's training images have 450 MB.
MOST_ANNOTATION_BYTES = 4 << 30

# Of a data set: the annotation of one image as XML, a list of images or classes, objects of one image, and a side of
# it, pixels, which is OpenCV's own limit.
MOST_XML_BYTES = 4 << 20
MOST_XML_DEPTH = 100  # annotation/object/part/bndbox/xmin are five
MOST_LIST_BYTES = 64 << 20
MOST_OBJECTS = 10_000
MOST_IMAGE_SIDE = 1 << 20

# Characters of a network address.
MOST_URL_LENGTH = 4096

# The manifest of an engine: profiles or targets, images of a batch, and bytes of a plan or of scratch memory.
MOST_MANIFEST_ROWS = 64
MOST_BATCH = 1 << 20
MOST_ENGINE_BYTES = 1 << 50

# Priors of one network; SSD512 has 24,564. And pixels of its input.
MOST_PRIORS = 1_000_000
MOST_INPUT_PIXELS = 4096 * 4096

# Classes of one network (ImageNet's full set has 21,841), and detections in one image.
MOST_CLASSES = 100_000
MOST_DETECTIONS = 1_000_000

# Key points of each box; whole bodies with hands and faces have 133.
MOST_KEYPOINTS = 512

# A bundle: its index, its files, all that they hold, and how often its own size that may be. Weights of all zeros
# shrink to a thousandth, those of a trained network to nine tenths; what is small anyway may be of any ratio.
MOST_INDEX_BYTES = 1 << 20
MOST_BUNDLE_FILES = 1000
MOST_BUNDLE_BYTES = 8 << 30
MOST_BUNDLE_RATIO = 200
HARMLESS_BUNDLE_BYTES = 64 << 20

# The list of entries at the end of any zip file; a checkpoint of a thousand tensors has 100 KB.
MOST_ARCHIVE_LIST_BYTES = 4 << 20

# A checkpoint or a file of weights: SSD512 with the state of its optimizer has 450 MB.
MOST_CHECKPOINT_BYTES = 8 << 30

# The structure of an ONNX file without its weights, and the bytes that one tensor of it may claim.
MOST_ONNX_HEADER_BYTES = 64 << 20
MOST_TENSOR_BYTES = 8 << 30

# What of that structure is looked at one by one: fields (some 0.7 us each), nodes once functions are laid out, and
# graphs in graphs. SSDs have some ten thousand, some hundred, and none.
MOST_ONNX_FIELDS = 2_000_000
MOST_ONNX_NODES = 100_000
MOST_ONNX_DEPTH = 16

# Models whose first opening ended well, remembered in the user's cache: the latest ones.
MOST_KNOWN_MODELS = 1000


def most_image_pixels() -> int:
    """Pixels that an image may have: EDGE_SSD_MAX_MEGAPIXELS, else 100 million. Raises ValueError for no number."""
    return int(_setting(MEGAPIXELS_VARIABLE, _MEGAPIXELS) * 1e6)


def load_seconds(file_bytes: int) -> float:
    """Seconds that opening a model of this size may take: EDGE_SSD_LOAD_SECONDS, else 10, and 1 more for each 20 MB.

    Raises ValueError where the variable holds no number.
    """
    return _setting(LOAD_SECONDS_VARIABLE, _LOAD_SECONDS) + file_bytes / _BYTES_PER_LOAD_SECOND


def load_bytes(file_bytes: int, pixels: int, priors: int = 0) -> int:
    """Bytes of memory that opening a model of this size may take: EDGE_SSD_LOAD_GIGABYTES, else what it should need.

    pixels: of its input.   priors: of its spec, 0 if not known.   Raises ValueError where the variable holds no number.
    """
    if os.environ.get(LOAD_GIGABYTES_VARIABLE):
        return int(1e9 * _setting(LOAD_GIGABYTES_VARIABLE, 0))
    work = _BYTES_PER_PIXEL * pixels
    if priors:
        work = min(work, _BYTES_PER_PRIOR * priors)
    return int(1e9 * _LOAD_GIGABYTES) + _LOADS_OF_FILE * file_bytes + work


def _setting(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ValueError(f"{variable}: expected a number above 0, got {text!r}")
    return value


# A file inside of a wheel that `pull` fetches; the largest one has 3 MB.
MOST_PULLED_BYTES = 32 << 20
