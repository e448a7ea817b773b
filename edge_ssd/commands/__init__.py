"""The subcommands of `edge-ssd`, one module each: `add_parser(subparsers)` and `main(arguments) -> exit code`.

They import heavy packages inside `main`, so that `-h` works on a bare install.
"""

from contextlib import contextmanager


@contextmanager
def plotting():
    """Around the import of a plot module: says what to install where matplotlib is missing."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"--plot needs the 'matplotlib' package ({error}): pip install edge-ssd[eval]"
        ) from None
