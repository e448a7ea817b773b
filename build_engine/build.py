"""A build from start to end: precision into the ONNX file, the quantization report, the engine."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from ..files import StrPath, file_sha256, replacing
from ..files.inside import file_inside, place_inside
from ..machine.cpu import sums_int8_exactly
from ..model_files.external_data import external_locations
from ..model_files.known_models import remember_made
from ..model_files.manifest import Manifest, engine_path, read_manifest
from ..model_files.pair import replacing_model
from ..spec import SsdSpec
from . import quantization_report as reports
from . import tensorrt_api as api
from .calibration import Table, calibrate_model
from .compile import CompileOptions, compile_engine, find_target
from .fp16 import OVERFLOW_LIMIT, convert_to_fp16
from .graph import Graph
from .guard import check_room, only_build
from .images import CalibrationImages
from .int8 import quantise, quantise_for_cpu
from .model_file import Model, batch_of, failures_named, load_model, read_proto
from .options import BuildOptions
from .progress import BuildBar, shown
from .sensitivity import Layer, fewest_kept, kind_of_layers, measure
from .session import open_bytes, run_arrays

# Enough for the error of the heads to rank layers by; more only takes longer.
_SENSITIVITY_IMAGES = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """What a build left on disk.

    onnx: what runs on any machine.   engine: the plan; None for cpu.   report: the page; None without data.
    islands: {node kept in float32: why}.   verdict: of the quantization report, "" without.
    """

    onnx: Path
    engine: Path | None
    report: Path | None
    islands: dict[str, str]
    verdict: str = ""


def build(options: BuildOptions) -> Built:
    """Builds what the BuildOptions ask for.

    Raises FileNotFoundError, ValueError, OSError, ImportError or MemoryError, each saying what to do. When INT8
    loses more than `max_drop` whatever is kept in FP16, the quantization report is written and nothing else.
    """
    runtime = options.runtime or _installed_runtime()
    _check_out(options, runtime)
    model = load_model(options.model)
    # The ONNX file that an engine is made of lies beside it.
    folder = Path(options.out).parent if options.out else model.path.parent
    # The machine is asked here, rather than after minutes of calibration.
    target = None
    if runtime == "cpu":
        check_room(folder.absolute(), model.path.stat().st_size)
    else:
        target = find_target(options.compile_options(runtime), model.path, model.batch, folder.absolute())
    file = _OnnxFile(options, runtime, model, folder)
    with only_build(file.path), failures_named(model.path):
        made = file.make()
    engine = None
    if target:
        beside = engine_path(model.path, options.precision, api.RUNTIMES[runtime])
        engine = Path(options.out) if options.out else beside
        with closing(BuildBar(options.progress)) as bar:
            compile_engine(made.path, model.spec, engine, target, file.origin(made.table), bar)
    return Built(made.path, engine, made.page, made.islands, made.verdict)


def rebuild(path: StrPath, progress: bool = True) -> Manifest:
    """Builds an engine again for this machine, from the ONNX file beside it, as its manifest records.

    path: NAME.engine.   Raises FileNotFoundError or ValueError when the ONNX file is not there or has changed,
    and what `find_target` and `compile_engine` raise.
    """
    path = Path(path)
    found = read_manifest(path)
    manifest = found.manifest
    advice = f"Begin with the model: {manifest.rebuild_command}"
    try:
        onnx_path = file_inside(path.parent, manifest.onnx)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path.parent / manifest.onnx}: not beside {path.name}, which was built from it. {advice}"
        ) from None
    if file_sha256(onnx_path) != manifest.onnx_sha256:
        raise ValueError(f"{onnx_path}: is not the file that {path.name} was built from. {advice}")
    runtime = next(name for name, flavour in api.RUNTIMES.items() if flavour == manifest.flavour)
    options = CompileOptions(
        runtime,
        manifest.batch,
        manifest.workspace_bytes,
        version_compatible=manifest.version_compatible,
        hardware_compatible=manifest.hardware_compatible,
    )
    names = ("precision", "source", "source_sha256", "calibration_sha256", "command")
    origin = {name: getattr(manifest, name) for name in names}
    batch = batch_of(read_proto(onnx_path), found.spec)
    target = find_target(options, onnx_path, batch, path.absolute().parent)
    with closing(BuildBar(progress)) as bar:
        return compile_engine(onnx_path, found.spec, path, target, origin, bar)


def _check_out(options: BuildOptions, runtime: str) -> None:
    if not options.out:
        return
    suffix = ".onnx" if runtime == "cpu" else ".engine"
    if Path(options.out).suffix != suffix:
        raise ValueError(f"{options.out}: expected a name that ends in {suffix}")
    if Path(options.out).resolve() == Path(options.model).resolve():
        raise ValueError(f"{options.out}: is the model itself; give --out another name")


def _installed_runtime() -> str:
    """tensorrt where it is installed, else rtx; the error of the former when neither is."""
    for runtime in ("tensorrt", "rtx"):
        try:
            api.load_tensorrt(runtime)
            return runtime
        except ImportError:
            continue
    return "tensorrt"


class _Made(NamedTuple):
    """The ONNX file in the wanted precision.

    islands: {node kept in float32: why}.   table: of the calibration, None without one.
    page, verdict: of the quantization report; None and "" without.
    """

    path: Path
    islands: dict[str, str]
    table: Table | None = None
    page: Path | None = None
    verdict: str = ""


class _OnnxFile:
    """The ONNX file of a build, with its calibration and its quantization report, written into `folder`."""

    def __init__(self, options: BuildOptions, runtime: str, model: Model, folder: Path) -> None:
        self.options, self.model, self.folder = options, model, folder
        self.runtime, self.for_cpu = runtime, runtime == "cpu"
        self.source_sha256 = file_sha256(model.path)

    @property
    def path(self) -> Path:
        """Where the ONNX file of the wanted precision goes."""
        precision = self.options.precision
        if precision == "fp32":
            return self.folder / self.model.path.name
        if self.for_cpu and self.options.out:
            return Path(self.options.out)
        return self._path("int8-cpu" if precision == "int8" and self.for_cpu else precision)

    def make(self) -> _Made:
        """The file in the precision that the options ask for. Raises ValueError where INT8's budget cannot hold."""
        if self.options.precision == "fp32":
            return _Made(self._copied(), {})
        if self.options.precision == "int8":
            return self._make_int8(self._calibrated())
        table = None
        if self.options.calibration:
            table = self._calibrated()
        else:
            _log.warning("no --calibration images: FP16 was not watched for values beyond %g", OVERFLOW_LIMIT)
        path, islands = self._write_fp16(table, self.path)
        return _Made(path, islands, table)

    def origin(self, table: Table | None) -> dict[str, str]:
        """What the manifest says of where the engine came from."""
        return {
            "precision": self.options.precision,
            "source": self.model.path.name,
            "source_sha256": self.source_sha256,
            "calibration_sha256": table.sha256 if table else "",
            "command": self.options.command(),
        }

    def _copied(self) -> Path:
        """The model itself, in the folder where its engine goes, with its spec, and its weights where they lie apart.

        Raises ValueError when another file of that name is there, before anything is written.
        """
        source, path = self.model.path, self.folder / self.model.path.name
        if path.exists() and path.samefile(source):
            return path
        spec_path = path.with_suffix(".json")
        names = [*external_locations(source), *filter(None, [self.model.spec.priors.file])]
        places = [(file_inside(source.parent, name), place_inside(self.folder, name)) for name in names]
        places.append((source, path))
        for original, target in places:
            _check_same(target, file_sha256(original), file_sha256)
        _check_same(spec_path, self.model.spec.to_json(), _spec_text)
        for original, target in places:  # the model comes last: it is there when all that it names is
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary:
                    shutil.copyfile(original, temporary)
        if not spec_path.exists():
            self.model.spec.save(spec_path)
        return path

    def _calibrated(self) -> Table:
        options = self.options
        images = CalibrationImages(
            options.calibration, self.model.spec, options.calibration_images, options.calibration_split
        )
        method = options.method if options.precision == "int8" else "minmax"
        table = calibrate_model(
            self.model, images, method, self.source_sha256, options.threads, options.progress
        )
        table.save(self.folder / f"{self.model.path.stem}.calibration.json")
        return table

    def _write_fp16(self, table: Table | None, path: Path) -> tuple[Path, dict[str, str]]:
        proto, islands = convert_to_fp16(self.model.proto, table.extremes if table else None)
        return self._save(proto, path), islands

    def _make_int8(self, table: Table) -> _Made:
        name = "int8-cpu" if self.for_cpu else "int8"
        keep, page, verdict = (), None, ""
        options = self.options
        if options.data:
            evaluate = reports.Evaluator(options.data, options.split, options.threads, options.progress)
            fp16_path, _ = self._write_fp16(table, self._path("fp16"))
            keep, report = self._measured(table, evaluate, fp16_path)
            page, verdict = reports.write(report, self._path(f"{name}.report", ".json")), report["verdict"]
            if not report["holds"]:
                raise ValueError(
                    f"{verdict} No INT8 was built; the quantization report is {page}, the FP16 model {fp16_path}"
                )
        proto, islands = self._placed(table, keep)
        return _Made(self._save(proto, self.path), islands, table, page, verdict)

    def _placed(self, table: Table, keep: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
        """(the INT8 model with the convolutions `keep` left in float, its float32 islands)."""
        if self.for_cpu:
            narrow = not sums_int8_exactly()
            return quantise_for_cpu(self.model.proto, table.ranges, keep, narrow), {}
        return convert_to_fp16(quantise(self.model.proto, table.ranges, keep), table.extremes)

    def _path(self, precision: str, suffix: str = ".onnx") -> Path:
        return self.folder / f"{self.model.path.stem}.{precision}{suffix}"

    def _save(self, proto: onnx.ModelProto, path: Path) -> Path:
        with replacing_model(path, self.model.spec) as temporary:
            onnx.save(proto, temporary)
        remember_made(path)
        return path

    def _measured(
        self, table: Table, evaluate: reports.Evaluator, fp16_path: Path
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The convolutions to keep in FP16, and the quantization report, which says whether the budget holds."""
        options = self.options
        of_fp32 = evaluate(self.model.path)
        reference = of_fp32["AP"]
        rows = [
            reports.row("fp32", self.model.path, of_fp32, reference),
            reports.row("fp16", fp16_path, evaluate(fp16_path), reference),
        ]
        layers, _ = self._sensitivity(table)
        with tempfile.TemporaryDirectory() as folder:
            trial, found = Path(folder, f"{self.model.path.stem}.int8.onnx"), {}

            def loss_of(keep: tuple[str, ...]) -> float:
                self._save(self._placed(table, keep)[0], trial)
                found[keep] = evaluate(trial)
                return 100 * (reference - found[keep]["AP"])

            budget = float("inf") if options.max_drop is None else options.max_drop
            keep, search = fewest_kept(layers, loss_of, budget)
            self._save(self._placed(table, keep)[0], trial)
            rows.append(reports.row("int8", trial, found[keep], reference))
            paths = self.model.path, fp16_path, trial
            reports.add_times(rows, paths, self.model.spec, self.runtime, options.threads)
            rows[-1]["file"] = self.path.name
        return keep, reports.compose(rows, table, layers, search, keep, options)

    def _sensitivity(self, table: Table) -> tuple[list[Layer], float]:
        """The Layers, most to blame first, and the error of full INT8."""
        options, spec = self.options, self.model.spec
        images = CalibrationImages(
            options.calibration, spec, _SENSITIVITY_IMAGES, options.calibration_split, quiet=True
        )
        batches = list(images)
        names = list(spec.outputs.names)

        def heads_of(keep: tuple[str, ...] | None) -> list[list[np.ndarray]]:
            proto = self.model.proto if keep is None else self._placed(table, keep)[0]
            session = open_bytes(proto.SerializeToString(), options.threads)
            return [run_arrays(session, names, {spec.input.name: self._filled(batch)}) for batch in batches]

        kinds = kind_of_layers(Graph(self.model.proto))
        return measure(kinds, heads_of, lambda items: shown(items, "sensitivity", "layer", options.progress))

    def _filled(self, batch: np.ndarray) -> np.ndarray:
        return batch.repeat(self.model.batch or 1, axis=0)


def _check_same(path: Path, wanted: str, content_of: Callable[[Path], str]) -> None:
    """Raises ValueError for a file at `path` whose content, by the function `content_of`, is not the wanted."""
    if path.exists() and content_of(path) != wanted:
        raise ValueError(
            f"{path}: is there already, and is not what the engine is built from. "
            "Move it away, or give --out a folder of its own"
        )


def _spec_text(path: Path) -> str:
    try:
        return SsdSpec.load(path).to_json()
    except ValueError:
        return ""  # no spec
