"""A build from start to end: precision into the ONNX file, the receipt, the engine."""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import onnx

from ..files import file_sha256, replacing
from ..machine.cpu import sums_int8_exactly
from ..model_files.external_data import external_locations
from ..model_files.manifest import engine_path, read_manifest
from ..spec import SsdSpec
from . import receipt as receipts
from . import tensorrt_api as api
from .calibration import calibrate_model
from .compile import CompileOptions, check_batch, check_machine, compile_engine
from .fp16 import OVERFLOW_LIMIT, convert_to_fp16
from .graph import Graph
from .guard import check_room
from .images import CalibrationImages
from .int8 import quantise, quantise_for_cpu
from .model_file import load_model
from .progress import BuildBar, shown
from .sensitivity import fewest_kept, kind_of_layers, measure
from .session import open_bytes

# Enough for the error of the heads to rank layers by; more only takes longer.
_SENSITIVITY_IMAGES = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """What a build left on disk.

    onnx: what runs on any machine.   engine: the plan; None for cpu.   receipt: the page; None without data.
    islands: {node kept in float32: why}.   verdict: of the receipt, "" without.
    """

    onnx: Path
    engine: Path | None
    receipt: Path | None
    islands: dict[str, str]
    verdict: str = ""


def build(options):
    """Builds what the BuildOptions ask for.

    Raises FileNotFoundError, ValueError, OSError, ImportError or MemoryError, each saying what to do. When INT8
    loses more than `max_drop` whatever is kept in FP16, the receipt is written and nothing else.
    """
    runtime = options.runtime or _installed_runtime()
    if runtime != "cpu":
        check_machine(options.compile_options(runtime))  # here, rather than after minutes of calibration
    _check_out(options, runtime)
    model = load_model(options.model)
    if runtime != "cpu":
        check_batch(model.batch, options.batch)
    # The ONNX file that an engine is made of lies beside it.
    folder = Path(options.out).parent if options.out else model.path.parent
    check_room(folder.absolute(), model.path.stat().st_size)
    work = _Work(options, runtime, model, folder)
    onnx_path, islands = work.write_onnx()
    engine = None
    if runtime != "cpu":
        beside = engine_path(model.path, options.precision, api.RUNTIMES[runtime])
        engine = Path(options.out) if options.out else beside
        with closing(BuildBar(options.progress)) as bar:
            compile_engine(
                onnx_path, model.spec, engine, options.compile_options(runtime), work.origin(), bar
            )
    return Built(onnx_path, engine, work.receipt, islands, work.verdict)


def rebuild(path, progress=True):
    """Builds an engine again for this machine, from the ONNX file beside it, as its manifest records.

    path: NAME.engine.   Raises FileNotFoundError or ValueError when the ONNX file is not there or has changed,
    and what `compile_engine` raises.
    """
    path = Path(path)
    found = read_manifest(path)
    manifest = found.manifest
    onnx_path = path.with_name(manifest.onnx)
    if not onnx_path.is_file():
        raise FileNotFoundError(
            f"{onnx_path}: not beside {path.name}, which was built from it. Begin with the model: {manifest.command}"
        )
    if file_sha256(onnx_path) != manifest.onnx_sha256:
        raise ValueError(
            f"{onnx_path}: is not the file that {path.name} was built from. Begin with the model: {manifest.command}"
        )
    runtime = next(name for name, flavour in api.RUNTIMES.items() if flavour == manifest.flavour)
    options = CompileOptions(
        runtime,
        (manifest.profiles[0][0], *manifest.profiles[-1][1:]),
        manifest.workspace_bytes,
        version_compatible=manifest.version_compatible,
        hardware_compatible=manifest.hardware_compatible,
    )
    names = ("precision", "source", "source_sha256", "calibration_sha256", "command")
    origin = {name: getattr(manifest, name) for name in names}
    with closing(BuildBar(progress)) as bar:
        return compile_engine(onnx_path, found.spec, path, options, origin, bar)


def _check_out(options, runtime):
    if not options.out:
        return
    suffix = ".onnx" if runtime == "cpu" else ".engine"
    if Path(options.out).suffix != suffix:
        raise ValueError(f"{options.out}: expected a name that ends in {suffix}")
    if Path(options.out).resolve() == Path(options.model).resolve():
        raise ValueError(f"{options.out}: is the model itself; give --out another name")


def _installed_runtime():
    """tensorrt where it is installed, else rtx; the error of the former when neither is."""
    for runtime in ("tensorrt", "rtx"):
        try:
            api.load_tensorrt(runtime)
            return runtime
        except ImportError:
            continue
    return "tensorrt"


class _Work:
    """The ONNX file of a build, with its calibration and its receipt."""

    def __init__(self, options, runtime, model, folder):
        self.options, self.model, self.folder = options, model, folder
        self.runtime, self.for_cpu = runtime, runtime == "cpu"
        self.source_sha256 = file_sha256(model.path)
        self.table, self.receipt, self.verdict = None, None, ""

    def origin(self):
        """What the manifest says of where the engine came from."""
        return {
            "precision": self.options.precision,
            "source": self.model.path.name,
            "source_sha256": self.source_sha256,
            "calibration_sha256": self.table.sha256 if self.table else "",
            "command": self.options.command(),
        }

    def write_onnx(self):
        """(path of the ONNX file in the wanted precision, {node kept in float32: why})."""
        if self.options.precision == "fp32":
            return self._copied(), {}
        if self.options.calibration:
            self.table = self._calibrated()
        else:
            _log.warning("no --calibration images: FP16 was not watched for values beyond %g", OVERFLOW_LIMIT)
        if self.options.precision == "fp16":
            return self._write_fp16(self._target("fp16"))
        return self._write_int8()

    def _copied(self):
        """The model itself, in the folder where its engine goes, with its spec, and its weights where they lie apart.

        Raises ValueError when another file of that name is there, before anything is written.
        """
        source, path = self.model.path, self.folder / self.model.path.name
        if path.exists() and path.samefile(source):
            return path
        spec_path = path.with_suffix(".json")
        names = [source.name, *external_locations(source), *filter(None, [self.model.spec.priors.file])]
        for name in names:
            _check_same(self.folder / name, file_sha256(source.parent / name), file_sha256)
        _check_same(spec_path, self.model.spec.to_json(), _spec_text)
        for name in names:
            target = self.folder / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary:
                    shutil.copyfile(source.parent / name, temporary)
        if not spec_path.exists():
            self.model.spec.save(spec_path)
        return path

    def _calibrated(self):
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

    def _write_fp16(self, path=None):
        proto, islands = convert_to_fp16(self.model.proto, self.table and self.table.extremes)
        return self._save(proto, path or self._path("fp16")), islands

    def _write_int8(self):
        name = "int8-cpu" if self.for_cpu else "int8"
        keep = self._gated(self._path(f"{name}.report", ".json")) if self.options.data else ()
        proto, islands = self._placed(keep)
        return self._save(proto, self._target(name)), islands

    def _placed(self, keep):
        """(the INT8 model with the convolutions `keep` left in float, its float32 islands)."""
        if self.for_cpu:
            narrow = not sums_int8_exactly()
            return quantise_for_cpu(self.model.proto, self.table.ranges, keep, narrow), {}
        return convert_to_fp16(quantise(self.model.proto, self.table.ranges, keep), self.table.extremes)

    def _target(self, precision):
        """Where the ONNX file of the wanted precision goes."""
        return Path(self.options.out) if self.for_cpu and self.options.out else self._path(precision)

    def _path(self, precision, suffix=".onnx"):
        return self.folder / f"{self.model.path.stem}.{precision}{suffix}"

    def _save(self, proto, path):
        with replacing(path) as temporary:
            onnx.save(proto, temporary)
        self.model.spec.save(path.with_suffix(".json"))
        return path

    def _gated(self, report_path):
        """The convolutions to keep in FP16; writes the receipt. Raises ValueError when the budget cannot hold."""
        options = self.options
        evaluate = receipts.Evaluator(options.data, options.split, options.threads, options.progress)
        fp16_path, _ = self._write_fp16()
        of_fp32 = evaluate(self.model.path)
        reference = of_fp32["AP"]
        rows = [
            receipts.row("fp32", self.model.path, of_fp32, reference),
            receipts.row("fp16", fp16_path, evaluate(fp16_path), reference),
        ]
        layers, _ = self._sensitivity()
        with tempfile.TemporaryDirectory() as folder:
            trial, reports = Path(folder, f"{self.model.path.stem}.int8.onnx"), {}

            def loss_of(keep):
                self._save(self._placed(keep)[0], trial)
                reports[keep] = evaluate(trial)
                return 100 * (reference - reports[keep]["AP"])

            budget = float("inf") if options.max_drop is None else options.max_drop
            keep, search = fewest_kept(layers, loss_of, budget)
            self._save(self._placed(keep)[0], trial)
            rows.append(receipts.row("int8", trial, reports[keep], reference))
            paths = self.model.path, fp16_path, trial
            receipts.add_times(rows, paths, self.model.spec, self.runtime, options.threads)
            rows[-1]["file"] = self._target("int8-cpu" if self.for_cpu else "int8").name
        receipt = receipts.compose(rows, self.table, layers, search, keep, options)
        self.receipt, self.verdict = receipts.write(receipt, report_path), receipt["verdict"]
        if not receipt["holds"]:
            raise ValueError(
                f"{self.verdict} No INT8 was built; the receipt is {self.receipt}, the FP16 model {fp16_path}"
            )
        return keep

    def _sensitivity(self):
        """The Layers, most to blame first, and the error of full INT8."""
        options, spec = self.options, self.model.spec
        images = CalibrationImages(
            options.calibration, spec, _SENSITIVITY_IMAGES, options.calibration_split, quiet=True
        )
        batches = list(images)
        names = [spec.outputs.loc, spec.outputs.conf]

        def heads_of(keep):
            proto = self.model.proto if keep is None else self._placed(keep)[0]
            session = open_bytes(proto.SerializeToString(), options.threads)
            return [session.run(names, {spec.input.name: self._filled(batch)}) for batch in batches]

        kinds = kind_of_layers(Graph(self.model.proto))
        return measure(kinds, heads_of, lambda items: shown(items, "sensitivity", "layer", options.progress))

    def _filled(self, batch):
        return batch.repeat(self.model.batch or 1, axis=0)


def _check_same(path, wanted, content_of):
    """Raises ValueError for a file at `path` whose content, by the function `content_of`, is not the wanted."""
    if path.exists() and content_of(path) != wanted:
        raise ValueError(
            f"{path}: is there already, and is not what the engine is built from. "
            "Move it away, or give --out a folder of its own"
        )


def _spec_text(path):
    try:
        return SsdSpec.load(path).to_json()
    except ValueError:
        return ""  # no spec
