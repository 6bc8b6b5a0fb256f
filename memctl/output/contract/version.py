"""The structure of what commands print as JSON: the contract with programs that read it.

`commands` has a type for each command, and `memctl schema` prints it as a JSON Schema. Within a
version of the contract, fields are only added. A name means the same everywhere; see `meanings`.
"""

VERSION = 1
