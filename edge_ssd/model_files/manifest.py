"""What lies beside an engine: NAME.engine.json, its spec and its manifest. NumPy and the standard library only.

A plan runs on the TensorRT version and the GPU that it was built for, and TensorRT's own message for any other
is unreadable. So the manifest says what it was built for, and is compared with this machine before TensorRT
sees the plan, which stays byte for byte what TensorRT made.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .. import limits
from ..files import StrPath, replacing
from ..files.json_fields import (
    BadKey,
    check_keys,
    check_type,
    inside,
    read_json,
    shown,
    text_of,
    whole_numbers,
)
from ..files.terminal import one_line
from ..spec import SsdSpec

FORMAT = "edge_ssd-engine/1"

_PRECISIONS = ("fp32", "fp16", "int8")
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,40}")
_MOST_CAPABILITY = 999

FLAVOURS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_SUFFIXES = {"tensorrt": ".engine", "tensorrt_rtx": ".rtx.engine"}

_log = logging.getLogger(__name__)


class EngineMismatch(ValueError):
    """An engine that cannot run here; the message ends in the command that rebuilds it."""


@dataclass(frozen=True)
class Running:
    """What a machine has to run an engine with.

    flavour: a key of FLAVOURS.   version: as the package says it, such as "10.3.0".
    compute_capability: (major, minor) of the GPU, None without one.   gpu_name, driver: "" if not known.
    """

    flavour: str
    version: str
    compute_capability: tuple[int, int] | None = None
    gpu_name: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Manifest:
    """What an engine was built for, and from what.

    flavour ... driver: the machine it was built on, as in Running; without a GPU for TensorRT-RTX.
    targets: compute capabilities that the plan is for; empty: that of the building machine alone.
    precision: fp32, fp16 or int8.   profiles: (min, opt, max) batch of each optimisation profile.
    onnx: name of the file that was compiled, which lies beside the engine; source: of the model it came
    from.   *_sha256: of those files, of the calibration table ("" without one), and of the plan.
    version_compatible, hardware_compatible: whether TensorRT was asked for such a plan.
    workspace_bytes: limit given to the builder; 0: TensorRT's own.
    command: what built it, as whoever wrote the manifest says: never shown as advice, see `rebuild_command`.
    """

    flavour: str
    version: str
    compute_capability: tuple[int, int] | None
    gpu_name: str
    driver: str
    targets: tuple[tuple[int, int], ...]
    precision: str
    profiles: tuple[tuple[int, int, int], ...]
    onnx: str
    onnx_sha256: str
    source: str
    source_sha256: str
    calibration_sha256: str
    engine_bytes: int
    engine_sha256: str
    version_compatible: bool
    hardware_compatible: bool
    workspace_bytes: int
    command: str

    @property
    def runs_on(self) -> tuple[tuple[int, int], ...]:
        """Compute capabilities that the plan is for."""
        own = self.compute_capability
        return self.targets or (() if own is None else (own,))

    @property
    def rebuild_command(self) -> str:
        """The command that builds such an engine from its model, made of the fields that were checked."""
        # A name that begins with a dash would be an option.
        source = f"./{self.source}" if self.source.startswith("-") else self.source
        words = ["edge-ssd", "build", source, "--precision", self.precision]
        if self.calibration_sha256:
            words += ["--calibration", "IMAGES"]
        if self.flavour == "tensorrt_rtx":
            words += ["--runtime", "rtx"]
        if self.batch != (1, 1, 1):
            words += ["--batch", *map(str, self.batch)]
        if self.workspace_bytes:
            words += ["--workspace-gib", f"{self.workspace_bytes / 2**30:g}"]
        for name in ("version_compatible", "hardware_compatible"):
            words += [f"--{name.replace('_', '-')}"] * getattr(self, name)
        return shlex.join(words)

    @property
    def batch(self) -> tuple[int, int, int]:
        """(min, opt, max) batch over all profiles, as it was asked for."""
        return (self.profiles[0][0], *self.profiles[-1][1:])


@dataclass(frozen=True)
class EngineFile:
    """The two things that NAME.engine.json holds."""

    spec: SsdSpec
    manifest: Manifest

    def save(self, engine_path: StrPath) -> None:
        """Writes NAME.engine.json beside the engine, as a whole or not at all."""
        content = {
            "format": FORMAT,
            "spec": json.loads(self.spec.to_json()),
            "manifest": asdict(self.manifest),
        }
        with replacing(manifest_path(engine_path)) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def precision_of(path: StrPath) -> str:
    """fp32, fp16 or int8, by the name that `build` gives: NAME.fp16.onnx, NAME.int8.engine."""
    words = Path(path).name.split(".")
    return next((p for p in ("int8", "fp16") if any(w.startswith(p) for w in words[1:])), "fp32")


def engine_path(model_path: StrPath, precision: str, flavour: str) -> Path:
    """Where the engine of a model goes: NAME.<precision>.engine beside it, .rtx.engine for TensorRT-RTX.

    precision: fp32, fp16 or int8.   flavour: a key of FLAVOURS.
    """
    model_path = Path(model_path)
    return model_path.with_name(f"{model_path.stem}.{precision}{_SUFFIXES[flavour]}")


def manifest_path(engine_path: StrPath) -> Path:
    """NAME.engine.json for NAME.engine."""
    engine_path = Path(engine_path)
    return engine_path.with_name(engine_path.name + ".json")


def read_manifest(engine_path: StrPath) -> EngineFile:
    """The EngineFile beside an engine.

    Raises FileNotFoundError when the engine or its manifest is not there, ValueError naming the file and the key when
    the manifest is damaged, or no manifest.
    """
    engine_path = Path(engine_path)
    path = manifest_path(engine_path)
    if not engine_path.is_file():
        raise FileNotFoundError(f"{engine_path}: no such engine; build it: edge-ssd build M.onnx")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no manifest beside {engine_path.name}, so nothing says what it was built for. "
            "Copy it from where the engine was built, or build it again: edge-ssd build M.onnx"
        )
    content = read_json(path)
    try:
        spec, manifest = _parsed(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    object.__setattr__(spec, "folder", str(path.parent))
    return EngineFile(spec, manifest)


def check_manifest(manifest: Manifest, engine_path: StrPath, running: Running) -> None:
    """Raises EngineMismatch unless the engine runs on the machine that `running` describes.

    manifest: of the engine.   engine_path: its file, whose size is compared too.   running: Running.
    Another driver, or another GPU of the same compute capability, runs; the latter is logged, for TensorRT
    tuned the plan for the first.
    """
    engine_path = Path(engine_path)
    found_bytes = engine_path.stat().st_size
    if found_bytes != manifest.engine_bytes:
        raise EngineMismatch(
            f"{engine_path.name} has {found_bytes} bytes, its manifest says {manifest.engine_bytes}: "
            f"it was cut off or replaced. Copy it again, or {_advice(manifest, engine_path)}"
        )
    if not (_version_fits(manifest, running) and _gpu_fits(manifest, running)):
        advice = _advice(manifest, engine_path)
        raise EngineMismatch(
            f"{engine_path.name} was built with {_built_for(manifest)}; "
            f"this machine has {_present(manifest, running)}. {advice[0].upper()}{advice[1:]}"
        )
    if manifest.gpu_name and running.gpu_name and manifest.gpu_name != running.gpu_name:
        _log.warning(
            "%s was tuned on %s and runs on %s; rebuilt here it may be faster",
            engine_path.name,
            manifest.gpu_name,
            running.gpu_name,
        )


def sm_name(compute_capability: tuple[int, int]) -> str:
    """(8, 7) -> "sm_87"."""
    return "sm_{}{}".format(*compute_capability)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _version_fits(manifest: Manifest, running: Running) -> bool:
    if manifest.flavour != running.flavour:
        return False
    built, here = _numbers(manifest.version), _numbers(running.version)
    if manifest.version_compatible:  # then any later release of the same major version reads the plan
        return built[:1] == here[:1] and built <= here
    shared = min(len(built), len(here))  # JetPack's package leaves out the build number that PyPI's has
    return built[:shared] == here[:shared]


def _gpu_fits(manifest: Manifest, running: Running) -> bool:
    here = running.compute_capability
    if here is None:
        return False
    if manifest.hardware_compatible:  # Ampere and later
        return here >= (8, 0)
    return here in manifest.runs_on


def _built_for(manifest: Manifest) -> str:
    if manifest.hardware_compatible:
        return f"{FLAVOURS[manifest.flavour]} {manifest.version} for sm_80 and later"
    return f"{FLAVOURS[manifest.flavour]} {manifest.version} for {', '.join(map(sm_name, manifest.runs_on))}"


def _present(manifest: Manifest, running: Running) -> str:
    name = "" if manifest.flavour == running.flavour else f"{FLAVOURS[running.flavour]} "
    if running.compute_capability is None:
        return f"{name}{running.version} and no GPU that it can use"
    return f"{name}{running.version} on {sm_name(running.compute_capability)}"


def _advice(manifest: Manifest, engine_path: Path) -> str:
    """The command that makes the engine again here: from its model, or from the ONNX file that came with it."""
    folder = engine_path.parent
    if (folder / manifest.onnx).is_file() and not (folder / manifest.source).is_file():
        return f"rebuild it here: edge-ssd build {shlex.quote(str(engine_path))}"
    return f"rebuild it here: {manifest.rebuild_command}"


def _parsed(content: Any) -> tuple[SsdSpec, Manifest]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise BadKey("format", f"expected {FORMAT!r}, got {_quoted(found)}")
    for key in ("spec", "manifest"):
        if not isinstance(content.get(key), dict):
            raise BadKey(key, "missing")
    try:
        spec = SsdSpec.from_json(json.dumps(content["spec"]))
    except RecursionError:
        raise BadKey("spec", "nested too deeply") from None
    with inside("manifest"):
        return spec, _manifest(content["manifest"])


def _manifest(values: dict[str, Any]) -> Manifest:
    types = {f.name: str(f.type) for f in fields(Manifest)}
    check_keys(values, known=types, required=types)
    for key, type_name in types.items():
        if values[key] is not None or not type_name.endswith("None"):
            check_type(values[key], key, {"str": str, "bool": bool, "int": int}.get(type_name, list))
    _check_values(values)
    listed = {"targets": 2, "profiles": 3}
    for key in listed:
        if len(values[key]) > limits.MOST_MANIFEST_ROWS:
            raise BadKey(key, f"expected at most {limits.MOST_MANIFEST_ROWS}, got {len(values[key])}")
    pairs = {
        key: tuple(whole_numbers(row, key, count) for row in values[key]) for key, count in listed.items()
    }
    if not pairs["profiles"]:
        raise BadKey("profiles", "expected at least one")
    for profile in pairs["profiles"]:
        _check_range(profile, "profiles", 1, limits.MOST_BATCH)
    here = values["compute_capability"]
    here = None if here is None else whole_numbers(here, "compute_capability", 2)
    for capability in (*pairs["targets"], *([] if here is None else [here])):
        _check_range(capability, "compute_capability", 0, _MOST_CAPABILITY)
    if here is None and not pairs["targets"]:
        raise BadKey("targets", "expected at least one where compute_capability is null")
    return Manifest(**{**values, **pairs, "compute_capability": here})


def _check_values(values: dict[str, Any]) -> None:
    """Texts and numbers within their bounds; their types have been checked."""
    if values["flavour"] not in FLAVOURS:
        raise BadKey("flavour", f"expected {' or '.join(FLAVOURS)}, got {_quoted(values['flavour'])}")
    text_of(values["precision"], "precision", _PRECISIONS)
    if not _VERSION.fullmatch(values["version"]):
        raise BadKey("version", f"expected a version such as 10.3.0, got {shown(values['version'])}")
    for key in ("onnx", "source"):
        _check_file_name(values[key], key)
    for key in ("engine_bytes", "workspace_bytes"):
        _check_range([values[key]], key, 0, limits.MOST_ENGINE_BYTES)


def _quoted(value: object) -> str:
    return repr(value[:60]) if isinstance(value, str) else shown(value)


def _check_range(numbers: Sequence[int], key: str, least: int, most: int) -> None:
    for number in numbers:
        if not least <= number <= most:
            raise BadKey(key, f"expected numbers from {least} to {most}, got {shown(number)}")


def _check_file_name(name: str, key: str) -> None:
    """A name beside the engine, and nothing that a terminal would not show."""
    if (
        name in ("", ".", "..")
        or set(name) & set("/\\")
        or one_line(name) != name
        or len(name.encode()) > 255
    ):
        raise BadKey(key, f"expected the name of a file, got {shown(name)}")
