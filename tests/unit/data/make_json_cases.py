# SPDX-License-Identifier: MIT
"""Writes what Python's json.dumps makes of json_cases.json beside it: run once when cases are added."""
import json
from pathlib import Path

here = Path(__file__).parent
cases = json.loads((here / "json_cases.json").read_text(encoding="utf-8"))
(here / "json_cases.sorted.json").write_text(json.dumps(cases, indent=2, sort_keys=True))
(here / "json_cases.compact.json").write_text(json.dumps(cases))
(here / "json_cases.indent0.json").write_text(json.dumps(cases, indent=0))
