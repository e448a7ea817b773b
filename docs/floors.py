"""Draws docs/floors.svg, the floors of the package: who imports whom, from the imports of the code as it is.

    python docs/floors.py             # writes docs/floors.svg
    python docs/floors.py --check     # exit code 1 where it is not current, or an import goes up or in a circle

A part is a module or a folder right below edge_ssd/, and build_engine/, kernels/, benchmarks/. An import inside a
function counts, too. The SVG is written by hand, so that the same code gives the same file on every machine.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "floors.svg"

# From the top floor down. A part imports parts of lower floors alone; parts of one floor do not know each other.
FLOORS = (
    ("doors", "benchmarks"),
    ("cli",),
    ("commands",),
    ("bench", "doctor"),
    ("build_engine",),
    ("agreement", "training", "mediapipe", "pipeline"),
    ("detector",),
    ("loading", "spec_draft"),
    ("backends",),
    ("engines",),
    ("model_files", "networks", "evaluation"),
    ("datasets", "sinks"),
    ("sources", "machine"),
    ("memory", "reference"),
    ("priors", "frames", "detections", "options"),
    ("spec", "models", "resize", "boxes", "device_array"),
    ("files", "timing", "kernels"),
    ("limits", "version"),
)
FACE = "edge_ssd"  # __init__.py, which hands names on and may look up
# What `python -m` starts: edge_ssd, edge_ssd.run, edge_ssd.build_engine.
_DOORS = ("edge_ssd.__main__", "edge_ssd.run", "edge_ssd.build_engine.__main__")

_WIDTH, _ROOM_WIDTH, _ROOM_HEIGHT, _FLOOR_HEIGHT, _MARGIN = 980, 118, 30, 64, 24
_CSS = (
    "text{font:13px sans-serif;text-anchor:middle;fill:#1b2733}"
    ".room{fill:#e8f0f7;stroke:#4a6b8a}.way{fill:none;stroke:#4a6b8a;stroke-opacity:.22}.ground{stroke:#d5dde5}"
)


def modules():
    """{dotted name: path} of every module, as Python sees it once installed."""
    found = {}
    for folder in ("edge_ssd", "build_engine", "kernels", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            if folder in ("build_engine", "kernels"):
                parts.insert(0, "edge_ssd")
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join(parts)] = path
    return found


def imports_of(name, path, known):
    """Dotted names of this project's modules that a module imports, anywhere in it; each once."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            # `from package import module` imports the module; of a name in a module, the module.
            found |= {f"{stem}.{a.name}" if f"{stem}.{a.name}" in known else stem for a in node.names}
    return sorted(found & known.keys() - {name})


def part_of(name):
    """The part that a dotted name belongs to; FACE for the package itself."""
    if name in _DOORS:
        return "doors"
    parts = name.split(".")
    if parts[0] == "benchmarks":
        return "benchmarks"
    return parts[1] if len(parts) > 1 else FACE


def module_arrows():
    """{module: the modules that it imports}."""
    known = modules()
    return {name: imports_of(name, path, known) for name, path in known.items()}


def part_arrows(arrows):
    """{(part, part): [(module, module), ...]} of imports from one part to another, without those of the face."""
    found = defaultdict(list)
    for name, targets in arrows.items():
        for target in targets:
            pair = part_of(name), part_of(target)
            if pair[0] != pair[1] and FACE not in pair:
                found[pair].append((name, target))
    return dict(found)


def problems(arrows):
    """What is wrong, a sentence each: parts without a floor, imports that do not go down, circles of modules."""
    floor = {part: i for i, parts in enumerate(FLOORS) for part in parts}
    parts = {part_of(name) for name in arrows} - {FACE}
    said = [
        f"{part}: has no floor; add it to FLOORS in docs/floors.py" for part in sorted(parts - floor.keys())
    ]
    for (upper, lower), ways in sorted(part_arrows(arrows).items()):
        if upper in floor and lower in floor and floor[upper] >= floor[lower]:
            said += [
                f"{name} imports {target}: {upper} does not stand above {lower}" for name, target in ways
            ]
    circle = circle_of(arrows)
    if circle:
        said.append(f"a circle: {' -> '.join(circle)}")
    return said


def circle_of(arrows):
    """The modules of one circle of imports, its first again at the end; [] without any. The face is left out."""
    done = set()

    def walk(name, way):
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        for target in arrows.get(name, ()):
            if target != FACE and (found := walk(target, [*way, name])):
                return found
        return []

    for name in arrows:
        if name != FACE and (found := walk(name, [])):
            return found
    return []


def drawing(arrows):
    """The floors as SVG: a row for each, a box for each part, a line for each import between two parts."""
    places = {}
    for row, parts in enumerate(FLOORS):
        step = _WIDTH / len(parts)
        for column, part in enumerate(parts):
            places[part] = (step * (column + 0.5), _MARGIN + _FLOOR_HEIGHT * row)
    height = _MARGIN * 2 + _FLOOR_HEIGHT * (len(FLOORS) - 1) + _ROOM_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>The floors of edge_ssd: a part imports parts of lower floors alone</title>",
        f"<style>{_CSS}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for row in range(len(FLOORS)):
        y = _MARGIN + _FLOOR_HEIGHT * row + _ROOM_HEIGHT + (_FLOOR_HEIGHT - _ROOM_HEIGHT) // 2
        lines += [f'<path class="ground" d="M0 {y}H{_WIDTH}"/>'] * (row < len(FLOORS) - 1)
    for upper, lower in sorted(part_arrows(arrows)):
        (x1, y1), (x2, y2) = places[upper], places[lower]
        y1, middle = y1 + _ROOM_HEIGHT, (y1 + _ROOM_HEIGHT + y2) / 2
        path = f"M{x1:.0f} {y1}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2}"
        lines.append(f'<path class="way" d="{path}"><title>{upper} imports {lower}</title></path>')
    for part, (x, y) in places.items():
        left, text = x - _ROOM_WIDTH / 2, y + _ROOM_HEIGHT * 2 // 3
        lines.append(
            f'<rect class="room" x="{left:.0f}" y="{y}" width="{_ROOM_WIDTH}" height="{_ROOM_HEIGHT}" rx="4"/>'
        )
        lines.append(f'<text x="{x:.0f}" y="{text}">{part}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main(argv):
    """Writes the picture, or checks it; the exit code."""
    arrows = module_arrows()
    wrong = problems(arrows)
    if not wrong and "--check" in argv:
        wrong = (
            []
            if PICTURE.read_text(encoding="utf-8") == drawing(arrows)
            else [f"{PICTURE}: python docs/floors.py"]
        )
    elif not wrong:
        PICTURE.write_text(drawing(arrows), encoding="utf-8")
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
