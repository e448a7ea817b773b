"""Structured mutations: files that are nearly right, since what is plainly wrong is refused at the first byte."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

Random = random.Random

# Numbers at which a width, a sign or a type ends.
NUMBERS = (0, -1, 1, 2, 255, 256, 65535, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**63, 2**64, 10**400)
TEXTS = (
    "",
    " ",
    "a" * 5000,
    "\x00",
    "\x1b]0;title\x07\x1b[2J",
    "a\nerror: forged",
    "\u202egpj",
    "\ud800",
    "$\\bad{",
    "../../x",
    "/etc/passwd",
    "~nobody-here/x",
    "%00%zz%ff",
    "\u0661\u0662",  # digits, and none of ours
    "1e999",
    "nan",
    "__class__",
    "\N{PILE OF POO}" * 50,
)
# Stand for lists in lists, which Python would not write out itself.
_NESTED = {f"nested {depth}": "[" * depth + "]" * depth for depth in (20, 500, 3000, 100_000)}
_WORD = re.compile(rb"[\w.+-]+")


def value(rng: Random) -> Any:
    """A value of any JSON type, most of them hostile."""
    kind = rng.randrange(9)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice((1e308, -1e308, 5e-324, float("nan"), float("inf"), 0.5, -0.0))
    if kind < 5:
        return rng.choice(TEXTS)
    if kind == 5:
        return rng.choice((None, True, False))
    if kind == 6:
        return [value(rng) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice(TEXTS): value(rng) for _ in range(rng.randrange(3))}
    return rng.choice(list(_NESTED))


def tree(rng: Random, root: Any) -> Any:
    """A JSON value with one to three places changed: replaced, removed, doubled, renamed, emptied."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(root))
        if not places:
            return value(rng)
        parent, key = rng.choice(places)
        _change(rng, parent, key)
    return root


def _places(root: Any) -> Any:
    """(container, key) of every value below the root."""
    stack, seen = [root], 0
    while stack and seen < 5000:
        node = stack.pop()
        keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            seen += 1
            yield node, key
            stack.append(node[key])


def _change(rng: Random, parent: Any, key: Any) -> None:
    action = rng.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, list):
        parent.extend([parent[key]] * rng.choice((1, 2, 100)))
    elif action == 1:
        parent[rng.choice(TEXTS)] = parent.pop(key)
    elif action == 2 and isinstance(parent[key], (list, dict)):
        parent[key].clear()
    elif action == 3 and type(parent[key]) in (int, float):
        parent[key] = parent[key] * rng.choice((-1, 0, 1000, 10**9))
    elif action == 4 and isinstance(parent[key], str):
        parent[key] += rng.choice(TEXTS)
    else:
        parent[key] = value(rng)


def json_text(rng: Random, data: bytes) -> bytes:
    """A JSON file: its values changed, or its bytes."""
    if rng.random() < 0.15:
        return some_bytes(rng, data)
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):  # of a past failure
        return some_bytes(rng, data)
    changed = json.dumps(tree(rng, root), ensure_ascii=rng.random() < 0.5)
    for name, lists in _NESTED.items():
        changed = changed.replace(f'"{name}"', lists)
    return changed.encode("utf-8", "surrogatepass")


def some_bytes(rng: Random, data: bytes) -> bytes:
    """Bytes flipped, inserted, removed, doubled, cut, or replaced by the ends of number ranges."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(changed) + 1)
        action = rng.randrange(6)
        if action == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif action == 1:
            changed[place:place] = rng.randbytes(rng.choice((1, 4, 100)))
        elif action == 2:
            del changed[place : place + rng.choice((1, 4, 100))]
        elif action == 3:
            changed[place:place] = changed[place : place + rng.choice((8, 300))]
        elif action == 4:
            del changed[place:]
        else:
            number = rng.choice(NUMBERS[:-1]) & (2**64 - 1)
            width, code = rng.choice(((2, "H"), (4, "I"), (8, "Q")))
            order = rng.choice("<>")
            changed[place : place + width] = struct.pack(f"{order}{code}", number & (256**width - 1))
    return bytes(changed)


def words(rng: Random, data: bytes) -> bytes:
    """Text in which words (numbers, names, tags, keys) are swapped for others or for hostile ones."""
    if rng.random() < 0.15:
        return some_bytes(rng, data)
    found = list(_WORD.finditer(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not found:
            return data
        match = rng.choice(found)
        new = rng.choice(
            (str(rng.choice(NUMBERS)), rng.choice(TEXTS), rng.choice(found).group().decode("latin-1"))
        )
        data = data[: match.start()] + new.encode("utf-8", "surrogatepass") + data[match.end() :]
        found = list(_WORD.finditer(data))
    return data


def xml(rng: Random, data: bytes) -> bytes:
    """An XML file: words changed, or another declaration, entities, nesting."""
    action = rng.randrange(8)
    if action == 0:
        encoding = rng.choice(("foo", "hex", "rot13", "utf-16", "utf-7", "idna", "base64", "\x00", "cp037"))
        return f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + data
    if action == 1:
        lols = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(12))
        return f"<!DOCTYPE a [{lols}]>".encode() + data.replace(b"dog", b"&l11;", 1)
    if action == 2:
        return b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + data.replace(b"dog", b"&x;", 1)
    if action == 3:
        depth = rng.choice((100, 20000))
        return data.replace(b"</annotation>", b"<x>" * depth + b"</x>" * depth + b"</annotation>")
    return words(rng, data)


def archive(rng: Random, data: bytes, change: Callable[[Random, str, bytes], bytes] | None = None) -> bytes:
    """A zip file: an entry's content, name, method or number changed; or the bytes of the whole.

    change: what becomes of an entry's content; `some_bytes` by default.
    """
    if rng.random() < 0.3:
        return some_bytes(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        entries = [(info.filename, old.read(info)) for info in old.infolist()]
        method = old.infolist()[0].compress_type
    chosen = rng.randrange(len(entries))
    name, content = entries[chosen]
    action = rng.randrange(7)
    if action == 0:
        entries[chosen] = (
            rng.choice((*TEXTS[:5], "../x", "/x", "a/../../x", "C:x", name + "/", ".")),
            content,
        )
    elif action == 1:
        entries.append((name, rng.randbytes(10)))
    elif action == 2:
        del entries[chosen]
    elif action == 3:
        entries[chosen] = (name, bytes(rng.choice((0, 1 << 20, 1 << 26))))
    else:
        entries[chosen] = (name, change(rng, name, content) if change else some_bytes(rng, content))
    method = rng.choice((method, method, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as new:
        for entry, content in entries:
            new.writestr(zipfile.ZipInfo(entry or "x"), content, method)
    return _patched(rng, packed.getvalue())


def _patched(rng: Random, data: bytes) -> bytes:
    """Sometimes: flags, methods or sizes in the directory of a zip file, which say what its entries do not."""
    place = data.rfind(b"PK\x01\x02")
    if place < 0 or rng.random() < 0.7:
        return data
    changed = bytearray(data)
    offset, width = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4)))
    number = rng.choice((0, 1, 9, 99, 2**31 - 1, 2**32 - 1)) & (256**width - 1)
    changed[place + offset : place + offset + width] = number.to_bytes(width, "little")
    return bytes(changed)


def protobuf(rng: Random, message: Any) -> None:
    """Changes one to three fields of a protobuf message, anywhere in it, in place."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder = rng.choice(_messages(message))
        fields = holder.DESCRIPTOR.fields
        used = [field for field, _ in holder.ListFields()]
        _change_field(rng, holder, rng.choice(used if used and rng.random() < 0.8 else fields))


def _messages(root: Any) -> Sequence[Any]:
    found, stack = [], [root]
    while stack and len(found) < 3000:
        message = stack.pop()
        found.append(message)
        for field, content in message.ListFields():
            if field.message_type is not None:
                stack += list(content) if _repeats(field) else [content]
    return found


def _repeats(field: Any) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _change_field(rng: Random, holder: Any, field: Any) -> None:
    try:
        if rng.random() < 0.2:
            holder.ClearField(field.name)
        elif _repeats(field):
            _change_list(rng, getattr(holder, field.name), field)
        elif field.message_type is not None:
            getattr(holder, field.name).SetInParent()
        else:
            setattr(holder, field.name, _scalar(rng, field))
    except (TypeError, ValueError):  # a number that does not fit the field: nothing is changed
        pass


def _change_list(rng: Random, items: Any, field: Any) -> None:
    action = rng.randrange(4)
    if items and action == 0:
        del items[rng.randrange(len(items))]
    elif items and action == 1 and field.message_type is not None:
        items.add().CopyFrom(rng.choice(items))
    elif field.message_type is not None:
        items.add()
    elif items and action == 2:
        items[rng.randrange(len(items))] = _scalar(rng, field)
    else:
        items.append(_scalar(rng, field))


def _scalar(rng: Random, field: Any) -> Any:
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        text = rng.choice((*TEXTS, "Reshape", "Conv", "If", "Loop", "Cast", "input", "location"))
        text = text.encode("utf-8", "replace").decode()
        return text.encode() if field.type == field.TYPE_BYTES else text
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    return rng.choice(NUMBERS[:-1])
