"""The subcommands of `edge-ssd`, one module each: `add_parser(subparsers)` and `main(arguments) -> exit code`.

They import heavy packages inside `main`, so that `-h` works on a bare install.
"""
