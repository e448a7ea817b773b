"""Packaging. kernels/ and build_engine/ lie beside edge_ssd/ and are installed as its subpackages."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "edge_ssd/__init__.py").read_text()).group(1)

CPU = ["onnxruntime>=1.17", "opencv-python>=4.8,<6", "tqdm>=4.60"]
EVAL = ["pycocotools>=2.0.7", "matplotlib>=3.7", "tqdm>=4.60"]
TRAIN = ["torch>=2.3", "onnx>=1.16", "onnxscript>=0.3", "tensorboard>=2.15", *EVAL]
# What the tests need besides torch, which `make test` installs first from TORCH_REQ.
TEST_RUNTIME = [*CPU, *EVAL, "onnx>=1.16", "pytest>=8", "hypothesis>=6.100", "ruff>=0.6"]

setup(
    name="edge-ssd",
    version=VERSION,
    description="SSD object detection from camera to detections, on a Jetson, a GPU box or a plain CPU",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["edge_ssd", "edge_ssd.*"]),
        "edge_ssd.kernels",
        "edge_ssd.build_engine",
    ],
    package_dir={"edge_ssd.kernels": "kernels", "edge_ssd.build_engine": "build_engine"},
    package_data={
        "edge_ssd": ["models/*.onnx", "models/*.json", "models/README.md"],
        "edge_ssd.kernels": ["*.cu", "*.cuh"],
    },
    entry_points={"console_scripts": ["edge-ssd = edge_ssd.cli:main"]},
    # NumPy alone: a pip OpenCV would shadow JetPack's own, which has GStreamer.
    install_requires=["numpy>=1.24"],
    extras_require={
        "cpu": CPU,
        "eval": EVAL,
        "train": TRAIN,
        "test-runtime": TEST_RUNTIME,
        "test": [*CPU, *TRAIN, *TEST_RUNTIME],
    },
    zip_safe=False,
)
