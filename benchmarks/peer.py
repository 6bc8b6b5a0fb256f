"""Run by the Python of an environment that has mnemosyne-memory: time its import and export.

It exports one memory, makes a document of 100,000 different ones out of that, and times how long
the import of this document and the export of the result take.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MEMORIES = 100_000


def main(folder: Path) -> None:
    """Print the seconds of each, as JSON."""
    program = Path(sys.executable).with_name("mnemosyne")
    places = {name: folder / f"peer-{name}" for name in ("seed", "data")}
    environments = {
        name: {**os.environ, "MNEMOSYNE_DATA_DIR": str(place), "MNEMOSYNE_NO_EMBEDDINGS": "1"}
        for name, place in places.items()
    }
    document = folder / "peer.json"
    run([program, "store", "a memory"], environments["seed"])
    run([program, "export", document], environments["seed"])
    multiply(document)
    seconds = {
        "import": run([program, "import", document], environments["data"]),
        "export": run([program, "export", folder / "peer-again.json"], environments["data"]),
    }
    again = json.loads((folder / "peer-again.json").read_text())
    found = len(memories_of(again))
    if found != MEMORIES:
        raise SystemExit(f"the peer exports {found} memories")
    print(json.dumps(seconds))


def run(command: list[Any], environment: dict[str, str]) -> float:
    """Run a command and return the duration of the process in seconds."""
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


def memories_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a document that are memories."""
    rows: list[dict[str, Any]] = document["working_memory"]
    return rows


def multiply(file: Path) -> None:
    """Turn a document with one memory into one with many."""
    document = json.loads(file.read_text())
    (memory,) = memories_of(document)
    document["working_memory"] = [
        {**memory, "id": f"{number:016x}", "content": f"task:{number} {'v' * (20 + number % 380)}"}
        for number in range(MEMORIES)
    ]
    for section in ("legacy_memories", "triples", "annotations", "canonical_facts"):
        document[section] = []
    file.write_text(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
