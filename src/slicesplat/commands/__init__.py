"""One module per command, imported only when that command is asked for.

Each holds a frozen dataclass `Command` whose fields are the flags; `slicesplat.cli` makes the parser from it
and calls its `run`. A settings class of the library (`Config`, ...) is one of the fields, so that help,
defaults and API cannot drift apart.
"""
