"""Energy that a piece of work took, from whatever meter this machine has: RAPL, a Jetson's INA3221, NVML."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from .nvml import GpuCounters

_POWERCAP = Path("/sys/class/powercap")
_HWMON = Path("/sys/class/hwmon")
_SAMPLE_S = 0.1

# The rail that carries the whole board, as Jetson modules label it.
_BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_TOTAL")


class Meter(Protocol):
    """What measures energy.   name: of what."""

    name: str

    def measure(self) -> AbstractContextManager[list[float]]:
        """A list that holds the joules of the block afterwards."""
        ...


class RaplMeter:
    """Joules of the CPU packages, counted by the CPU itself.   folder: sysfs's powercap."""

    name = "CPU packages (RAPL)"

    def __init__(self, folder: Path = _POWERCAP) -> None:
        self._packages = [
            (path / "energy_uj", int((path / "max_energy_range_uj").read_text()))
            for path in sorted(folder.glob("intel-rapl:[0-9]*"))
            if path.name.count(":") == 1 and _is_readable(path / "energy_uj")
        ]
        if not self._packages:
            raise OSError("no RAPL counter that this user may read")

    @contextmanager
    def measure(self) -> Iterator[list[float]]:
        """A list that holds the joules of the block afterwards."""
        before = self._counts()
        joules: list[float] = []
        yield joules
        spent = zip(before, self._counts(), self._packages)
        # The counter starts again at its limit, after minutes under load.
        joules.append(sum((now - then) % limit for then, now, (_, limit) in spent) / 1e6)

    def _counts(self) -> list[int]:
        return [int(path.read_text()) for path, _ in self._packages]


class GpuMeter:
    """Joules of the first NVIDIA GPU, counted by its driver: NVML, from Volta on."""

    name = "GPU (NVML)"

    def __init__(self) -> None:
        self._counters = GpuCounters()
        self._counters.millijoules()

    @contextmanager
    def measure(self) -> Iterator[list[float]]:
        """A list that holds the joules of the block afterwards."""
        before = self._counters.millijoules()
        joules: list[float] = []
        yield joules
        joules.append((self._counters.millijoules() - before) / 1e3)


class SampledMeter:
    """Joules from a reading of watts, every 0.1 s.   name: what it measures.   read_watts: function."""

    def __init__(self, name: str, read_watts: Callable[[], float], interval_s: float = _SAMPLE_S) -> None:
        self.name, self._read_watts, self._interval_s = name, read_watts, interval_s
        read_watts()  # raises OSError or ValueError here when there is nothing to read

    @contextmanager
    def measure(self) -> Iterator[list[float]]:
        """A list that holds the joules of the block afterwards."""
        joules: list[float] = []
        # None from before the block: that would be the power of a machine that waits.
        watts: list[float] = []
        stop = threading.Event()
        start = time.perf_counter()

        def sample() -> None:
            while not stop.wait(self._interval_s):
                with suppress(OSError, ValueError, subprocess.TimeoutExpired):
                    watts.append(self._read_watts())

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield joules
        finally:
            seconds = time.perf_counter() - start
            stop.set()
            thread.join()
        watts.append(self._read_watts())
        joules.append(sum(watts) / len(watts) * seconds)


def board_watts(folder: Path = _HWMON) -> float:
    """Watts of a Jetson's whole board, from its INA3221. folder: sysfs's hwmon. OSError where there is none."""
    for chip in sorted(folder.glob("hwmon*")):
        for label in sorted(chip.glob("in*_label")):
            if label.read_text().strip() in _BOARD_RAILS:
                rail = label.name[2:-6]
                volts = int((chip / f"in{rail}_input").read_text()) / 1e3
                return volts * int((chip / f"curr{rail}_input").read_text()) / 1e3
    raise OSError("no INA3221 with a rail of the whole board")


def gpu_watts() -> float:
    """Watts of the first NVIDIA GPU, from its driver. Raises OSError where it does not tell."""
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]
    if shutil.which(command[0]) is None:
        raise OSError("no nvidia-smi")
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return float(done.stdout)


def find_meters() -> list[Meter]:
    """The meters of this machine; a Jetson's board includes its CPU and GPU."""
    openers: tuple[Callable[[], Meter], ...] = (
        lambda: SampledMeter("board (INA3221)", board_watts),
        RaplMeter,
        GpuMeter,
        lambda: SampledMeter("GPU (nvidia-smi)", gpu_watts, 0.5),
    )
    meters: list[Meter] = []
    for opener in openers:
        try:
            meters.append(opener())
        except (OSError, ValueError, subprocess.TimeoutExpired):
            continue
        if meters[-1].name.startswith(("board", "GPU")):
            break
    return meters


def _is_readable(path: Path) -> bool:
    try:
        path.read_text()
    except OSError:
        return False  # of root alone, on many systems
    return True
