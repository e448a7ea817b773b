"""What is wrong with an ONNX file, found without an engine; and no honest one is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_ssd import limits
from edge_ssd.model_files.external_data import external_locations
from edge_ssd.model_files.onnx_check import check_onnx
from edge_ssd.model_files.onnx_file import BadModel
from edge_ssd.model_files.onnx_operators import ANY, counts_of, operators
from edge_ssd.models import FOLDER
from tests.conftest import ROOT
from tests.hostile.broken_onnx import node_of, save, set_constant, small_ssd


def tensor_of(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def refused(folder, model, match):
    with pytest.raises(BadModel, match=match):
        check_onnx(save(folder, model))


def set_names(model, output, inputs=None, outputs=None):
    node = node_of(model, output)
    for names, wanted in ((node.input, inputs), (node.output, outputs)):
        if wanted is not None:
            del names[:]
            names.extend(wanted)


def nested(depth):
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["a"], ["made"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "inner", [], [])
    return graph.node[0]


def add_function(model, name, calls):
    """A function of the domain "own" that calls others of it, one after the other."""
    nodes = [helper.make_node(call, [f"x{i}"], [f"x{i + 1}"], domain="own") for i, call in enumerate(calls)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", name, ["x0"], [f"x{len(calls)}"], nodes, opsets))


def make_sparse(model, sides):
    values = numpy_helper.from_array(np.ones(1, np.float32), "thin")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=sides))


class TestWholeModels:
    """They pass, and what their opening needs is read of them."""

    def test_inputs_outputs_and_no_other_files(self, tmp_path):
        checked = check_onnx(save(tmp_path, small_ssd()))
        assert checked.inputs == {"image": [None, 3, 32, 32]}
        assert checked.outputs == {"loc": [None, 16, 4], "conf": [None, 16, 3]}
        assert checked.external == ()

    def test_weights_that_are_listed_as_inputs_are_not_fed(self, tmp_path):
        model = small_ssd()
        tensor = tensor_of(model, "w")
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, tensor.dims))
        assert check_onnx(save(tmp_path, model)).inputs.keys() == {"image"}

    @pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnx")), ids=lambda path: path.stem)
    def test_the_shipped_ones(self, path):
        assert check_onnx(path).inputs.keys() == {"image"}

    def test_those_that_come_with_onnx(self):
        """One or more for most operators, from real exporters of many years, and whole networks."""
        models = sorted(Path(onnx.__file__).parent.glob("backend/test/data/*/**/*.onnx"))
        assert len(models) > 50
        for path in models:
            check_onnx(path)

    def test_a_loop_reads_what_is_made_around_it_and_its_order_does_not_matter(self, tmp_path):
        model = small_ssd()
        inner = helper.make_graph(
            [
                helper.make_node("Add", ["carried", "b"], ["sum"]),
                helper.make_node("Identity", ["go"], ["on"]),
            ],
            "body",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("i", "go", "carried")],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("on", "sum")],
        )
        model.graph.node.insert(0, helper.make_node("Loop", ["", "", "a"], ["looped"], body=inner))
        check_onnx(save(tmp_path, model))

    def test_functions_that_call_others(self, tmp_path):
        model = small_ssd()
        add_function(model, "Outer", ["Inner", "Inner"])
        add_function(model, "Inner", ["Unknown"])
        check_onnx(save(tmp_path, model))

    def test_every_kind_of_element(self, tmp_path):
        model = small_ssd()
        for kind in set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED, TensorProto.STRING}:
            values = [1, 2, 3, 0]
            model.graph.initializer.append(helper.make_tensor(f"typed{kind}", kind, [2, 2], values))
            packed = helper.tensor_dtype_to_np_dtype(kind)
            array = np.zeros((3, 2)).astype(packed)
            model.graph.initializer.append(numpy_helper.from_array(array, f"raw{kind}"))
        model.graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [2], ["a", "b"]))
        model.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0, 3], []))
        check_onnx(save(tmp_path, model))


class TestStructure:
    """Protobuf that ends too early, does not begin, or never ends."""

    def test_every_cut_is_seen_or_leaves_less_than_a_model(self, tmp_path):
        content = small_ssd().SerializeToString()
        for size in range(0, len(content), 7):
            refused(
                tmp_path,
                content[:size],
                "not a whole ONNX file|the file is empty|ir_version|nothing in the model",
            )

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "the file is empty"),
            (b"\x08\x08" + b"\xff" * 20, "the number at byte 2 is cut off"),
            (b"\x08\x08\x0b", "no field can begin like that at byte 2"),
            (b"\x08\x08\x02\x00", "not a whole ONNX file"),  # a field of number 0
            (b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "is cut off"),
            (b"\x3a\x00\x3a\x00", "holds twice what may be there once"),
            (b"not a model at all\n" * 20, "not a whole ONNX file"),
        ],
    )
    def test_what_is_no_protobuf(self, tmp_path, content, reason):
        refused(tmp_path, content, reason)

    def test_more_structure_than_any_model_has(self, tmp_path, monkeypatch):
        monkeypatch.setattr(limits, "MOST_ONNX_HEADER_BYTES", 2000)
        model = small_ssd()
        model.doc_string = "x" * 3000
        refused(tmp_path, model, "bytes besides weights, more than the 2000 that are read")
        model.ClearField("doc_string")
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(3000, np.uint8), "weights"))
        check_onnx(save(tmp_path, model))

    def test_more_fields_than_any_model_has(self, tmp_path):
        content = small_ssd().SerializeToString() + b"\x10\x00" * (limits.MOST_ONNX_FIELDS + 1)
        refused(tmp_path, content, "has more than the 2000000 fields that are read")

    def test_graphs_in_graphs_are_read_so_far(self, tmp_path):
        model = small_ssd()
        model.graph.node.append(nested(5))
        check_onnx(save(tmp_path, model))
        model.graph.node.append(nested(limits.MOST_ONNX_DEPTH + 1))
        refused(tmp_path, model, "has graphs in graphs, more than 16 deep")

    def test_the_time_does_not_grow_with_the_weights(self, tmp_path):
        """200 MB, sparse on disk, of which a few hundred bytes are looked at."""
        model, size = small_ssd(), 200_000_000
        tensor = onnx.TensorProto(name="large", data_type=TensorProto.UINT8, dims=[size]).SerializeToString()
        tensor += b"\x4a" + _varint(size)  # and its raw data
        graph = model.graph.SerializeToString() + b"\x2a" + _varint(len(tensor) + size) + tensor
        model.ClearField("graph")
        path = save(tmp_path, model.SerializeToString() + b"\x3a" + _varint(len(graph) + size) + graph)
        os.truncate(path, path.stat().st_size + size)
        done = subprocess.run(
            [sys.executable, "-c", _READ_AND_TIME, path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        count, structure_bytes, seconds, peak_kb = map(float, done.stdout.split())
        assert count == 6
        assert structure_bytes < 2000
        assert seconds < 0.1
        assert peak_kb < 100_000


_READ_AND_TIME = """
import sys, time
from edge_ssd.model_files.onnx_wire import read_structure
start = time.process_time()
model = read_structure(sys.argv[1])
seconds = time.process_time() - start
peak_kb = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(model.tensors), model.structure_bytes, seconds, peak_kb)
"""


def _varint(number):
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


class TestVersions:
    """Of the format, and of the sets of operators."""

    @pytest.mark.parametrize("version", [-1, 0, 101, 1 << 40])
    def test_of_the_format(self, tmp_path, version):
        model = small_ssd()
        model.ir_version = version
        refused(tmp_path, model, rf"^ir_version: expected 1 to 100, got {version}$")

    @pytest.mark.parametrize("version", [-1, 0, 256, 1 << 40])
    @pytest.mark.parametrize("domain", ["", "ai.onnx"])
    def test_of_onnx_operators(self, tmp_path, version, domain):
        model = small_ssd()
        model.opset_import[0].domain, model.opset_import[0].version = domain, version
        refused(tmp_path, model, rf"^opset: expected 1 to 255, got {version}$")

    def test_of_others(self, tmp_path):
        model = small_ssd()
        model.opset_import.append(helper.make_opsetid("com.example", 70000))
        check_onnx(save(tmp_path, model))
        model.opset_import[1].version = 1 << 40
        refused(tmp_path, model, "^opset of 'com.example': expected 0 to 2147483647, got 1099511627776$")


class TestTensors:
    """The bytes that are there are those of the sides that are said."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"dims": [8, 3, -3, 3]}, "^tensor 'w' has a negative side: 8 x 3 x -3 x 3$"),
            ({"dims": [8, 3, 3, 4]}, "^tensor 'w' says 8 x 3 x 3 x 4, which are 1152 bytes, and holds 864$"),
            (
                {"dims": [1 << 40, 1 << 40]},
                "^tensor 'w' says .*, more than the 8589934592 bytes that one may have$",
            ),
            ({"dims": [1 << 33]}, "more than the 8589934592 bytes"),
            ({"data_type": -1}, r"^tensor 'w' has no data type that there is \(-1\)$"),
            ({"data_type": 0}, r"no data type that there is \(0\)"),
            ({"data_type": TensorProto.DOUBLE}, "which are 1728 bytes, and holds 864"),
            ({"raw_data": b""}, "which are 864 bytes, and holds 0"),
            ({"raw_data": None}, "^tensor 'w' says 8 x 3 x 3 x 3 and holds nothing$"),
            ({"raw_data": None, "float_data": [1.0] * 215}, "and holds 215 values"),
            (
                {"raw_data": None, "data_type": TensorProto.INT32, "int32_data": [1] * 215},
                "at most 215 values",
            ),
            ({"raw_data": None, "data_type": TensorProto.STRING, "string_data": [b"a"]}, "and holds 1 texts"),
        ],
    )
    def test_of_a_graph(self, tmp_path, change, reason):
        model = small_ssd()
        tensor = tensor_of(model, "w")
        for key, value in change.items():
            tensor.ClearField(key)
            if isinstance(value, list):
                getattr(tensor, key).extend(value)
            elif value is not None:
                setattr(tensor, key, value)
        refused(tmp_path, model, reason)

    def test_of_an_attribute_in_a_branch(self, tmp_path):
        model = small_ssd()
        value = helper.make_tensor("value", TensorProto.FLOAT, [2], b"12345678", raw=True)
        value.dims[0] = 3
        inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=value)], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["a"], ["x"], then_branch=inner, else_branch=inner))
        refused(tmp_path, model, "^tensor 'value' says 3, which are 12 bytes, and holds 8$")

    def test_sparse_ones_that_fill_the_memory_once_they_are_laid_out(self, tmp_path):
        model = small_ssd()
        make_sparse(model, [1000, 1000])
        check_onnx(save(tmp_path, model))
        make_sparse(model, [1 << 20, 1 << 20])
        refused(tmp_path, model, "^sparse tensor 'thin' says 1048576 x 1048576, more than")

    def test_values_of_impossible_sides(self, tmp_path):
        model = small_ssd()
        sides = [1 << 30, "n", 1 << 30]
        model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, sides))
        refused(tmp_path, model, "^'a' says 1073741824 x 1073741824, more than")


class TestNodes:
    """Who makes what, and who reads it."""

    @pytest.mark.parametrize(
        ("output", "inputs", "reason"),
        [
            ("a", ["w"], r"^Conv \(node 'a'\) has 1 inputs, expected 2 to 3$"),
            ("a", ["image", "w", "", "w"], r"^Conv \(node 'a'\) has 4 inputs, expected 2 to 3$"),
            ("a", ["image", ""], r"^Conv \(node 'a'\) lacks input 1$"),
            ("b", [], r"^Relu \(node 'b'\) has 0 inputs, expected 1$"),
            ("loc", ["loc_moved"], r"^Reshape \(node 'loc'\) has 1 inputs, expected 2$"),
            (
                "loc",
                ["nobody", "loc_shape"],
                r"^Reshape \(node 'loc'\) needs 'nobody', which nothing in the model makes$",
            ),
            ("a", ["b", "w"], r"^Conv \(node 'a'\) needs its own output, directly or through others$"),
            ("b", ["b"], r"^Relu \(node 'b'\) needs its own output"),
        ],
    )
    def test_inputs(self, tmp_path, output, inputs, reason):
        model = small_ssd()
        set_names(model, output, inputs=inputs)
        refused(tmp_path, model, reason)

    @pytest.mark.parametrize(
        ("output", "outputs", "reason"),
        [
            ("a", [], r"^Conv \(node ''\) has 0 outputs, expected 1$"),
            ("a", ["a", "more"], r"^Conv \(node 'a'\) has 2 outputs, expected 1$"),
            ("b", ["a"], r"^'a' is made twice, the second time by Relu \(node 'a'\)$"),
            ("b", ["image"], "^'image' is made twice"),
            ("b", ["w"], "^'w' is made twice"),
            ("loc", ["other"], "^an output needs 'loc', which nothing in the model makes$"),
        ],
    )
    def test_outputs(self, tmp_path, output, outputs, reason):
        model = small_ssd()
        set_names(model, output, outputs=outputs)
        refused(tmp_path, model, reason)

    @pytest.mark.parametrize(
        ("name", "reason"), [("", "a node has no operator"), ("Conv\x1b[2J", "is no text: 'Conv")]
    )
    def test_operators(self, tmp_path, name, reason):
        model = small_ssd()
        node_of(model, "b").op_type = name
        refused(tmp_path, model, reason)

    def test_an_operator_that_is_no_text(self, tmp_path):
        refused(
            tmp_path,
            small_ssd().SerializeToString().replace(b"\x04Relu", b"\x04Re\xa4u"),
            r"is no text: 'Re\\udca4u'",
        )

    def test_unknown_operators_and_domains_are_left_to_the_engine(self, tmp_path):
        model = small_ssd()
        node_of(model, "b").op_type = "Invented"
        node_of(model, "loc_map").domain = "com.example"
        del node_of(model, "loc_map").input[:]
        check_onnx(save(tmp_path, model))

    def test_a_branch_that_reads_what_nobody_makes(self, tmp_path):
        model = small_ssd()
        inner = helper.make_graph([helper.make_node("Relu", ["nobody"], ["c"])], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["a"], ["x"], then_branch=inner, else_branch=inner))
        refused(tmp_path, model, r"^Relu \(node 'c'\) needs 'nobody'")

    def test_a_branch_that_waits_for_its_own_result(self, tmp_path):
        model = small_ssd()
        inner = helper.make_graph([helper.make_node("Relu", ["x"], ["c"])], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["a"], ["x"], then_branch=inner, else_branch=inner))
        refused(tmp_path, model, r"^If \(node 'x'\) needs its own output")

    def test_an_input_without_a_type(self, tmp_path):
        model = small_ssd()
        model.graph.input.append(onnx.ValueInfoProto(name="extra"))
        refused(tmp_path, model, "^input 'extra' has no type$")

    def test_a_function_that_calls_itself(self, tmp_path):
        model = small_ssd()
        add_function(model, "First", ["Second"])
        add_function(model, "Second", ["First"])
        refused(tmp_path, model, "^function '(First|Second)' calls itself, or others too deeply$")

    def test_functions_that_double_forty_times(self, tmp_path):
        model = small_ssd()
        for i in range(12):
            add_function(model, f"F{i}", [f"F{i + 1}"] * 4)
        refused(tmp_path, model, "^has 16777216 nodes, more than the 100000 that are read$")

    def test_the_table_of_operators_is_that_of_onnx(self):
        most_opset = onnx.defs.onnx_opset_version()
        known = {name for name in operators() if onnx.defs.has(name)}
        assert known == {*operators()}
        for name in known:
            for opset in range(
                onnx.defs.get_schema(name, 1).since_version if onnx.defs.has(name, 1) else 1, most_opset + 1
            ):
                if not onnx.defs.has(name, opset):
                    continue
                schema = onnx.defs.get_schema(name, opset)
                if schema.deprecated:
                    continue
                most, most_out = (min(count, ANY) for count in (schema.max_input, schema.max_output))
                wanted = schema.min_input, most, schema.min_output, most_out
                found = counts_of(name, opset)
                assert [_unbounded(n) for n in found] == [_unbounded(n) for n in wanted], (name, opset)


def _unbounded(count):
    return ANY if count >= ANY - 1 else count


class TestExternalData:
    """Weights in other files: regular ones, in the model's folder, as large as they have to be."""

    @pytest.fixture
    def model(self):
        model = small_ssd()
        tensor_of(model, "w").ClearField("raw_data")
        return model

    def point_to(self, model, location, offset=None, length=None):
        tensor = tensor_of(model, "w")
        tensor.ClearField("external_data")
        # The helper wants the values in the tensor.
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            if value is not None:
                tensor.external_data.add(key=key, value=str(value))

    def test_a_file_beside_the_model(self, model, tmp_path):
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "w.bin").write_bytes(bytes(1000))
        self.point_to(model, "parts/w.bin", 136, 864)
        path = save(tmp_path, model)
        assert check_onnx(path).external == ("parts/w.bin",)
        assert external_locations(path) == ["parts/w.bin"]

    def test_a_model_and_its_weights_behind_links_as_in_the_hubs_cache(self, model, tmp_path):
        blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        (blobs / "89ab").write_bytes(bytes(864))
        self.point_to(model, "w.bin")
        os.rename(save(blobs, model), blobs / "4567")
        (snapshot / "m.onnx").symlink_to("../../blobs/4567")
        (snapshot / "w.bin").symlink_to("../../blobs/89ab")
        assert check_onnx(snapshot / "m.onnx").external == ("w.bin",)

    @pytest.mark.parametrize(
        ("location", "reason"),
        [
            ("../w.bin", "'../w.bin', which is not in the model's folder"),
            ("parts/../../w.bin", ".*, which is not in the model's folder"),
            ("/etc/passwd", "'/etc/passwd', which is not in the model's folder"),
            ("a\\b", ".*, which is not in the model's folder"),
            ("C:w", ".*, which is not in the model's folder"),
            ("", "'', which is not in the model's folder"),
            ("nobody", "'nobody', which is not there; copy it too"),
            ("out", "'out', a link that leaves the model's folder"),
            ("away/w.bin", "'away/w.bin', a link that leaves the model's folder"),
            ("pipe", "'pipe', which is no regular file"),
            ("folder", "'folder', which is no regular file"),
            ("zero", "'zero', a link that leaves the model's folder"),
        ],
    )
    def test_what_may_not_be_read(self, model, tmp_path, location, reason):
        folder, outside = tmp_path / "models", tmp_path / "outside"
        for made in (folder, outside, folder / "folder", folder / "parts"):
            made.mkdir()
        for target in (outside / "w.bin", tmp_path / "w.bin"):
            target.write_bytes(bytes(864))
        (folder / "out").symlink_to("../w.bin")
        (folder / "away").symlink_to(outside)
        (folder / "zero").symlink_to("/dev/zero")
        os.mkfifo(folder / "pipe")
        self.point_to(model, location)
        refused(folder, model, f"^has weights in {reason}")

    @pytest.mark.parametrize(
        ("offset", "length", "reason"),
        [
            (None, None, None),
            (0, 864, None),
            (0, 860, "^tensor 'w' takes 864 bytes, and 'w.bin' has 860 of it$"),
            (1, None, "^tensor 'w' ends at byte 865 of 'w.bin', which has 864$"),
            (1 << 62, 864, "ends at byte 4611686018427388768 of 'w.bin', which has 864$"),
            (-1, 864, "^tensor 'w': offset: expected a whole number, got '-1'$"),
            (0, "8_64", "length: expected a whole number, got '8_64'$"),
            ("9" * 5000, 864, "offset: expected a whole number, got '9999"),
        ],
    )
    def test_where_in_the_file_they_are(self, model, tmp_path, offset, length, reason):
        (tmp_path / "w.bin").write_bytes(bytes(864))
        self.point_to(model, "w.bin", offset, length)
        if reason:
            refused(tmp_path, model, reason)
        else:
            check_onnx(save(tmp_path, model))


def test_addresses_in_memory_are_refused_first(tmp_path):
    path = save(tmp_path, small_ssd().SerializeToString() + b"*/_ORT_MEM_ADDR_/*")
    with pytest.raises(ValueError, match=r"m\.onnx: has weights at an address in memory"):
        check_onnx(path)


def test_a_shape_that_only_the_engine_can_judge_passes(tmp_path):
    model = small_ssd()
    set_constant(model, "loc_shape", np.array([0, 0, 0]))
    check_onnx(save(tmp_path, model))
