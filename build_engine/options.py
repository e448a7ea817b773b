"""What to build, checked before any work."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from . import tensorrt_api as api
from .calibration import METHODS
from .compile import CompileOptions

PRECISIONS = ("fp32", "fp16", "int8")
RUNTIMES = (*api.RUNTIMES, "cpu")


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    model: NAME.onnx.   precision: of PRECISIONS.   runtime: of RUNTIMES; "": the TensorRT that is installed.
    out: the engine's file, or the ONNX file's for cpu; "": beside the model.
    calibration: folder of images, or data set.   method: of calibration.METHODS.
    data, split: images that INT8's quantization report measures AP on.
    max_drop: AP points that INT8 may lose there; None: any.
    batch, workspace_bytes, targets, timing_cache, *_compatible: see CompileOptions.
    """

    model: str
    precision: str = "fp16"
    runtime: str = ""
    out: str = ""
    calibration: str = ""
    calibration_split: str = ""
    calibration_images: int = 128
    # Entropy cuts off what is large and rare: of 37 faces on photos, one detector kept 5 with it, 36 with this.
    method: str = "percentile"
    max_drop: float | None = None
    data: str = ""
    split: str = ""
    batch: tuple[int, int, int] = (1, 1, 1)
    workspace_bytes: int = 0
    targets: tuple[tuple[int, int], ...] = ()
    timing_cache: str = ""
    version_compatible: bool = False
    hardware_compatible: bool = False
    threads: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("runtime", ("", *RUNTIMES)), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.precision == "int8" and not self.calibration:
            raise ValueError(
                "calibration: INT8 needs images of what the camera will see, 100 or more: "
                "--calibration FOLDER (random numbers give ranges that no picture has)"
            )
        if self.precision == "fp32" and self.runtime == "cpu":
            raise ValueError(f"precision: nothing to build; {self.model} runs on the CPU in FP32 as it is")
        if self.max_drop is not None and not (self.data and self.precision == "int8"):
            raise ValueError(
                "max_drop: goes with --precision int8 and --data, the images to measure the loss on"
            )
        if self.data and self.precision != "int8":
            raise ValueError(
                "data: goes with --precision int8, whose report holds the AP of FP32 and FP16, too; of one model: "
                "edge-ssd eval --model M.onnx --data D"
            )
        if self.calibration_images < 1:
            raise ValueError(f"calibration_images: expected at least 1, got {self.calibration_images}")
        self.compile_options(self.runtime)  # refuses what does not go together

    def compile_options(self, runtime: str) -> CompileOptions:
        """The CompileOptions of these."""
        return CompileOptions(
            runtime,
            self.batch,
            self.workspace_bytes,
            self.targets,
            self.timing_cache,
            self.version_compatible,
            self.hardware_compatible,
        )

    def command(self) -> str:
        """The command line that does this again."""
        words = ["edge-ssd", "build", self.model, "--precision", self.precision]
        texts = (
            "runtime",
            "out",
            "calibration",
            "calibration_split",
            "method",
            "data",
            "split",
            "timing_cache",
        )
        for name in texts:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                words += [f"--{name.replace('_', '-')}", getattr(self, name)]
        if self.calibration and self.calibration_images != 128:
            words += ["--calibration-images", str(self.calibration_images)]
        if self.max_drop is not None:
            words += ["--max-drop", f"{self.max_drop:g}"]
        if self.batch != (1, 1, 1):
            words += ["--batch", *map(str, self.batch)]
        if self.workspace_bytes:
            words += ["--workspace-gib", f"{self.workspace_bytes / 2**30:g}"]
        if self.targets:
            words += ["--compute-capability", *("{}.{}".format(*target) for target in self.targets)]
        words += [
            f"--{name.replace('_', '-')}"
            for name in ("version_compatible", "hardware_compatible")
            if getattr(self, name)
        ]
        return shlex.join(words)
