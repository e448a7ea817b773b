"""Packaging. kernels/ and build_engine/ lie beside edge_ssd/ and are installed as its subpackages."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "edge_ssd/version.py").read_text()).group(1)

CPU = ["onnxruntime>=1.17", "opencv-python>=4.8,<6", "tqdm>=4.60"]
OPENVINO = ["openvino>=2024.4"]
EVAL = ["pycocotools>=2.0.7", "matplotlib>=3.7", "tqdm>=4.60"]
# No OpenCV: a Jetson builds its engines itself, and has its own.
BUILD = ["onnx>=1.16", "onnxruntime>=1.17", "tqdm>=4.60", "pycocotools>=2.0.7"]
TRAIN = ["torch>=2.4", "onnx>=1.16", "onnxscript>=0.3", "tensorboard>=2.15", *EVAL]
# Reads TFLite files: bindings that Google's schema compiler made, without TensorFlow; NumPy and flatbuffers alone.
PULL = ["tflite>=2.10,<3", "onnx>=1.16"]
# What the tests need besides torch, which `make test` installs first from TORCH_REQ, and OpenVINO, without which
# `make test-runtime` runs them.
TEST_RUNTIME = [
    *CPU,
    *EVAL,
    *PULL,
    "pytest>=8",
    "pytest-xdist>=3.5",
    "jsonschema>=4",
    "hypothesis>=6.100",
    "ruff>=0.6",
    "pyright[nodejs]>=1.1.390",
    "uv>=0.5",  # resolves the extras for machines that are not here
]
# TensorRT's names are looked up in packages that import without a GPU; the first one also builds engines.
TENSORRT = [
    f'{package}; sys_platform == "linux" and platform_machine == "x86_64"'
    for package in ("tensorrt-rtx-cu13>=1.7,<2", "tensorrt-lean-cu13>=11.4,<12")
]


def cuda_compiler(suffix, major):
    """NVIDIA's compiler for the kernels and its headers, which CuPy's wheels leave out. A Jetson has them."""
    where = 'sys_platform == "linux" and platform_machine == "x86_64"'
    packages = (f"nvidia-cuda-{part}{suffix}" for part in ("nvrtc", "runtime"))
    return [f"{package}>={major},<{major + 1}; {where}" for package in packages]


def cupy(name, oldest):
    """From 14 on CuPy needs NumPy 2, and OpenCV of JetPack 6 and 7 is built for NumPy 1."""
    return [
        f'{name}>={oldest},<15; platform_machine != "aarch64"',
        f'{name}>={oldest},<14; platform_machine == "aarch64"',
    ]


# Compiles the kernels in the tests; it needs no GPU.
NVRTC = ['cuda-bindings>=12.8; sys_platform == "linux"', *cuda_compiler("", 13)]

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
        "edge_ssd": ["py.typed", "models/*.onnx", "models/*.json", "models/README.md", "bench/*.json"],
        "edge_ssd.kernels": ["*.cu", "*.cuh"],
    },
    entry_points={"console_scripts": ["edge-ssd = edge_ssd.cli:main"]},
    # NumPy alone: a pip OpenCV would shadow JetPack's own, which has GStreamer.
    install_requires=["numpy>=1.24"],
    extras_require={
        "cpu": CPU,
        "openvino": OPENVINO,
        "build": BUILD,
        "cuda12": [*cupy("cupy-cuda12x", "13.3"), *cuda_compiler("-cu12", 12)],
        "cuda13": [*cupy("cupy-cuda13x", "13.6"), *cuda_compiler("", 13)],
        # JetPack brings TensorRT, CUDA and OpenCV; PyCUDA is built against its headers.
        "jetson": ["pycuda>=2024.1"],
        "tensorrt": ["tensorrt>=10.3,<12"],
        "rtx": ["tensorrt-rtx-cu13>=1.7,<2"],
        "eval": EVAL,
        "pull": PULL,
        "train": TRAIN,
        # Coverage-guided fuzzing; `make fuzz` does without.
        "fuzz": ['atheris>=3,<4; sys_platform == "linux" and platform_machine == "x86_64"'],
        "test-runtime": TEST_RUNTIME,
        "test": [*CPU, *OPENVINO, *TRAIN, *TEST_RUNTIME, *BUILD, *TENSORRT, *NVRTC],
    },
    zip_safe=False,
)
