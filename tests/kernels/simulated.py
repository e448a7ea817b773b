"""A CUDA device without a GPU: the methods of edge_ssd.kernels.device.Device, kernels compiled as C++.

Work on a stream is done as late as CUDA allows: when the host waits for it, and not before. So a host that
changes a buffer too early, or reads one too early, gets wrong results here every time, not now and then.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import shutil
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_ssd.kernels.source import kernel_source

HERE = Path(__file__).parent

# -ffp-contract=off and no -ffast-math: the arithmetic of OPTIONS in edge_ssd.kernels.source.
_COMPILER = ("g++", "-std=c++20", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas", "-Wno-attributes")
_SANITIZED = ("-O1", "-g", "-DSHIM_DRIVER", "-DSHIM_THREADS", "-pthread", "-fno-sanitize-recover=all")
_MODES = {
    "fibers": ("-O2", "-shared", "-fPIC"),
    "address": (*_SANITIZED, "-fsanitize=address,undefined"),
    "thread": (*_SANITIZED, "-fsanitize=thread"),
}


def has_compiler():
    """Whether kernels can be compiled for the CPU here."""
    return shutil.which("g++") is not None


class LaunchFailed(AssertionError):
    """A kernel that did what no kernel may do; the text is the sanitizer's, or the shim's."""


class Compiled:
    """One kernel as C++.

    folder: where binaries are kept.   mode: a key of _MODES.   edit: changes the source, to plant a bug.
    """

    _numbers = itertools.count()

    def __init__(self, folder, name, defines, mode, edit=None):
        self.name, self._mode, self._folder = name, mode, folder
        text = edit(kernel_source(name)) if edit else kernel_source(name)
        stem = folder / f"{name}_{next(self._numbers)}"
        source = stem.with_suffix(".cpp")
        source.write_text(_as_cpp(text, "clock_ns" if name == "clock" else name), encoding="utf-8")
        self._binary = stem.with_suffix(".so" if mode == "fibers" else ".exe")
        macros = [f"-D{key}={value}" for key, value in defines.items()]
        command = [*_COMPILER, *_MODES[mode], *macros, f"-I{HERE}", str(source), "-o", str(self._binary)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or "warning" in done.stderr:
            raise LaunchFailed(f"{name}.cu does not compile as C++:\n{done.stderr}")
        if mode == "fibers":
            self._library = ctypes.CDLL(str(self._binary))
            self._library.shim_launch.restype = self._library.shim_signature.restype = ctypes.c_char_p
            self.signature = self._library.shim_signature().decode()

    def run(self, shape, arguments, frames):
        """shape: grid x y z, threads, shared bytes.   frames: host arrays that descriptors point into."""
        if self._mode == "fibers":
            self._run_here(shape, arguments)
        else:
            self._run_apart(shape, arguments, frames)

    def _run_here(self, shape, arguments):
        letters = "".join(_letter(argument) for argument in arguments)
        if letters != self.signature:
            raise LaunchFailed(f"{self.name} takes {self.signature}, its launcher passes {letters}")
        values = [
            ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else _c_value(a) for a in arguments
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        error = self._library.shim_launch((ctypes.c_int64 * 5)(*shape), pointers)
        if error:
            raise LaunchFailed(f"{self.name}: {error.decode()}")

    def _run_apart(self, shape, arguments, frames):
        path = self._folder / f"launch_{next(self._numbers)}.bin"
        moves = _moves(arguments, frames) if self.name == "preprocess" else []
        with path.open("wb") as file:
            file.write(struct.pack("<8q", *shape, len(arguments), len(frames), len(moves)))
            places = []
            for argument in [*arguments, *frames]:
                is_array = isinstance(argument, np.ndarray)
                data = argument.tobytes()
                lead = argument.ctypes.data % 16 if is_array else 0
                file.write(struct.pack("<3q", is_array, len(data), lead))
                places.append((argument, file.tell(), len(data)))
                file.write(data)
            for move in moves:
                file.write(struct.pack("<4q", *move))
        done = subprocess.run([str(self._binary), str(path)], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise LaunchFailed(f"{self.name}: exit code {done.returncode}\n{done.stderr}")
        content = path.read_bytes()
        path.unlink()
        for argument, at, size in places[: len(arguments)]:
            if isinstance(argument, np.ndarray):
                argument[...] = np.frombuffer(content[at : at + size], argument.dtype).reshape(argument.shape)


def _as_cpp(text, kernel):
    text = text.replace("#include <cuda_fp16.h>", "")
    shared = r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];"
    text = re.sub(shared, r"\1* \2 = shim::dynamic_shared<\1>();", text)
    return (
        f'#include "shim.h"\nnamespace {{\n{text}\n}}\n#line 1 "shim_launch"\n'
        f'extern "C" const char* shim_launch(const int64_t* s, void** arguments)\n{{\n'
        "    dim3 grid = {(unsigned)s[0], (unsigned)s[1], (unsigned)s[2]};\n"
        f"    return shim::launch({kernel}, grid, (unsigned)s[3], (size_t)s[4], arguments);\n}}\n"
        f'extern "C" const char* shim_signature() {{ return shim::signature({kernel}); }}\n'
        '#ifdef SHIM_DRIVER\n#include "driver.cpp"\n#endif\n'
    )


def _letter(argument):
    if isinstance(argument, np.ndarray):
        return "p"
    return {np.int32: "i", np.uint32: "i", np.float32: "f"}.get(type(argument), "?")


def _c_value(number):
    return (ctypes.c_float if isinstance(number, np.float32) else ctypes.c_int32)(number.item())


def _moves(arguments, frames):
    """Where descriptors hold the address of a frame: (argument, byte, frame, byte in the frame)."""
    moves, descriptors = [], arguments[0].view("<u8").reshape(-1, 8)
    for image, plane in itertools.product(range(len(descriptors)), range(3)):
        address = int(descriptors[image, plane])
        for i, frame in enumerate(frames):
            if frame.ctypes.data <= address < frame.ctypes.data + frame.nbytes:
                moves.append((0, image * 64 + plane * 8, len(arguments) + i, address - frame.ctypes.data))
                break
        else:
            assert address == 0, "a frame that the simulated device was not told of"
    return moves


class SimulatedDevice:
    """As edge_ssd.kernels.device.Device.

    folder: for binaries.   mode: "fibers", or a sanitizer: "address", "thread".
    edit: {kernel name: function that changes its source}.
    allocations: device arrays made so far.   synchronizations: times that the host waited.
    frames: host arrays that descriptors may point into; `frame` adds one.
    """

    name, compute_capability, is_integrated = "simulated device", (8, 7), False

    def __init__(self, folder, mode="fibers", edit=None):
        self._folder, self._mode, self._edit = folder, mode, edit or {}
        self._kernels = {}
        self._arrays = []
        self._current = []
        self.stream, self.copy_stream = _Stream(self), _Stream(self)
        self._default = _Stream(self)
        self.allocations = self.synchronizations = 0
        self.frames = []
        self.foreign_streams = {}

    def share_kernels(self, other):
        """Takes over what another device of the same mode has compiled, but for what is edited here.

        Without edits, what is compiled here is theirs too.
        """
        assert other._mode == self._mode
        self._kernels = other._kernels
        if self._edit:
            self._kernels = {k: v for k, v in other._kernels.items() if k[0] not in self._edit}

    def frame(self, array):
        """Registers a contiguous host array as memory that the device sees."""
        self.frames.append(array)
        return array

    def empty(self, shape, dtype):
        assert not self.is_recording, "an allocation while a stream is captured"
        self.allocations += 1
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        # Aligned as CUDA aligns, and filled with what is wrong wherever it is read unwritten.
        memory = np.full(count + 256, 0xFF, np.uint8)
        start = -memory.ctypes.data % 256
        array = memory[start : start + count].view(dtype).reshape(shape)
        self._arrays.append(array)
        return array

    def array(self, host):
        array = self.empty(host.shape, host.dtype)
        array[...] = host
        return array

    def view(self, array, start, shape, dtype):
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return array[start : start + nbytes].view(dtype).reshape(shape)

    def as_array(self, foreign):
        return foreign

    def check_reachable(self, address):
        if self._memory_at(address) is None:
            raise ValueError("image: its address is none of CUDA's")

    def _memory_at(self, address):
        for memory in (*self._arrays, *self.frames):
            if memory.ctypes.data <= address < memory.ctypes.data + max(memory.nbytes, 1):
                return memory
        return None

    def owns(self, array):
        return isinstance(array, np.ndarray) and self._memory_at(array.ctypes.data) is not None

    def address(self, array):
        return array.ctypes.data

    def to_host(self, array):
        assert not self.is_recording, "a wait while a stream is captured"
        for stream in (self._default, self.copy_stream, self.stream):
            stream.run()
        return array.copy()

    def page_locked(self, nbytes):
        host = np.full(max(nbytes, 1), 0xEE, np.uint8)[:nbytes]
        self.frames.append(host)
        return host, host.ctypes.data

    def upload(self, address, host_address, nbytes):
        assert self._memory_at(address) is not None, "an upload to memory that is not the device's"
        self.enqueue(lambda: ctypes.memmove(address, host_address, nbytes))

    def download(self, host_address, address, nbytes):
        assert self._memory_at(address) is not None, "a download of memory that is not the device's"
        self.enqueue(lambda: ctypes.memmove(host_address, address, nbytes))

    def event(self, wait="spin"):
        return _Event(self)

    def wait_for_foreign(self, stream_pointer):
        self.enqueue(lambda: self.foreign_streams[stream_pointer].run())

    def kernel(self, name, **defines):
        key = (name, *sorted(defines.items()))
        if key not in self._kernels:
            assert not self.is_recording, f"{name} must have run once before it is captured"
            self._kernels[key] = Compiled(self._folder, name, defines, self._mode, self._edit.get(name))
        compiled = self._kernels[key]

        def launch(grid, block, arguments, shared_bytes):
            assert shared_bytes <= 48 << 10, "more shared memory than a GPU gives unasked"
            shape = (*grid, *(1,) * (3 - len(grid)), block, shared_bytes)
            self.enqueue(lambda: compiled.run(shape, arguments, self.frames))

        return launch

    # ---- what the tests use beyond Device

    @property
    def is_recording(self):
        return self.current().recorded is not None

    def current(self):
        return self._current[-1] if self._current else self._default

    def enqueue(self, work):
        self.current().give(work)

    @contextmanager
    def recording(self):
        """Within it, what the current stream is given is kept in the list that this yields, not done."""
        stream = self.current()
        stream.recorded, kept = [], []
        try:
            yield kept
        finally:
            kept.extend(stream.recorded)
            stream.recorded = None


class _Stream:
    def __init__(self, device):
        self._device = device
        self._waiting = []
        self.recorded = None

    def give(self, work):
        (self._waiting if self.recorded is None else self.recorded).append(work)

    def run(self, until=None, pieces=None):
        """Does what waits, up to an event, so many pieces or to the end."""
        while self._waiting and pieces != 0:
            work = self._waiting.pop(0)
            work()
            if until is not None and work is until:
                return
            pieces = pieces and pieces - 1

    def __enter__(self):
        self._device._current.append(self)
        return self

    def __exit__(self, *_):
        self._device._current.pop()

    def wait_for(self, event):
        happening, place = event.place()
        self.give(lambda: event.run(happening, place))

    def synchronize(self):
        self._device.synchronizations += 1
        self.run()


class _Event:
    """A point on a stream: a piece of work that does nothing, done when the stream gets there."""

    def __init__(self, device):
        self._device = device
        self._stream = self._mark = None

    def record(self):
        self._stream, self._mark = self._device.current(), _Mark()
        self._stream.give(self._mark)

    def place(self):
        return self._stream, self._mark

    def is_done(self):
        """Looking at it lets the stream do its next piece of work: a GPU goes on while one looks."""
        stream, mark = self.place()
        if mark is not None and not mark.passed:
            stream.run(pieces=1)
        return mark is None or mark.passed

    @staticmethod
    def run(stream, mark):
        if mark is not None and not mark.passed:
            stream.run(until=mark)

    def synchronize(self):
        self._device.synchronizations += 1
        self.run(*self.place())


class _Mark:
    passed = False

    def __call__(self):
        self.passed = True
