"""Side-by-side measurements: `python -m benchmarks`.

Figures of one run can be compared with each other; those of different machines, or of different
runs on a busy machine, cannot.
"""

import sys
from pathlib import Path

MOMENT = "2026-11-22T09:43:58Z"
PROGRAM = Path(sys.executable).with_name("memctl")
