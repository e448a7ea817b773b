"""TensorRT's builder with the attributes of each version and no others; the plan is the ONNX file, reversed."""

from __future__ import annotations

import enum
from types import SimpleNamespace

FLAGS_OF = {
    "10.3.0": {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
    "11.0.0": {"STRONGLY_TYPED": 0, "PREFER_AOT_PYTHON_PLUGINS": 1},  # kept, and ignored
    "12.0.0": {"PREFER_AOT_PYTHON_PLUGINS": 1},  # should it go
    "1.7.1": {"STRONGLY_TYPED": 1},  # TensorRT-RTX
}
BUILDER_FLAGS_OF = {
    "10.3.0": ("FP16", "INT8", "VERSION_COMPATIBLE"),
    "11.0.0": ("VERSION_COMPATIBLE",),
    "12.0.0": ("VERSION_COMPATIBLE",),
    "1.7.1": ("VERSION_COMPATIBLE", "REQUIRE_USER_ALLOCATION"),
}


def make_tensorrt(version, refuse="", fail=False):
    """A module like tensorrt of `version`, which notes in `.calls` what it is asked.

    refuse: an operator that the parser does not take.   fail: the builder gives None.
    """
    calls = []
    severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)

    class ILogger:
        Severity = severity

        def __init__(self):
            self.made = True

    class IProgressMonitor:
        def __init__(self):
            self.made = True

    class Profile:
        def set_shape(self, name, least, best, most):
            calls.append(("profile", name, least, best, most))

    class Config:
        def __init__(self):
            self.progress_monitor = None

        def __setattr__(self, name, value):
            if name == "hardware_compatibility_level":
                calls.append(("hardware", value.name))
            super().__setattr__(name, value)

        def set_memory_pool_limit(self, pool, size):
            calls.append(("workspace", pool, size))

        def set_flag(self, flag):
            calls.append(("flag", flag.name))

        def add_optimization_profile(self, profile):
            return 0

        def create_timing_cache(self, data):
            calls.append(("cache", data))
            if data == b"broken":
                return None
            return SimpleNamespace(serialize=lambda: data + b"+")

        def set_timing_cache(self, cache, ignore_mismatch):
            return True

    class Builder:
        def __init__(self, logger):
            assert logger.made  # the real one crashes
            self.logger = logger

        def create_network(self, flags):
            calls.append(("network", flags))
            return SimpleNamespace(
                get_input=lambda i: SimpleNamespace(name="image", shape=(-1, 3, 100, 100)), data=b""
            )

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            monitor = config.progress_monitor
            assert monitor.made
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Timing tactics", "Building engine", 5)
            for step in range(2):
                if not monitor.step_complete("Building engine", step):
                    return None
            monitor.phase_finish("Building engine")
            if fail:
                self.logger.log(severity.ERROR, "no kernel for this GPU")
                return None
            return network.data[::-1]

    class OnnxParser:
        def __init__(self, network, logger):
            self.network = network
            self.num_errors = 0

        def parse(self, data, path):
            self.network.data = data
            self.num_errors = int(bool(refuse))
            return not refuse

        def get_error(self, index):
            return SimpleNamespace(
                desc=lambda: "Assertion failed:\n plugin not found",
                node_name=lambda: "n_odd",
                node_operator=lambda: refuse,
            )

    return SimpleNamespace(
        __version__=version,
        calls=calls,
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        Builder=Builder,
        OnnxParser=OnnxParser,
        NetworkDefinitionCreationFlag=enum.IntEnum("NetworkDefinitionCreationFlag", FLAGS_OF[version]),
        BuilderFlag=enum.Enum("BuilderFlag", BUILDER_FLAGS_OF[version]),
        MemoryPoolType=enum.Enum("MemoryPoolType", ["WORKSPACE"]),
        HardwareCompatibilityLevel=enum.Enum("HardwareCompatibilityLevel", ["NONE", "AMPERE_PLUS"]),
    )
