"""Fail unless the demo's summary shows what the README promises."""

import json
import sys
from pathlib import Path

summary = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
ind, ood = summary["episodes"]["ind"], summary["episodes"]["ood"]
wrong = []
if ind["trials"] < 10 or ind["success"] < 0.9 * ind["trials"]:
    wrong.append(f"ind: {ind['success']} of {ind['trials']} succeeded, 9 of 10 are promised")
if not ood["trials"] or ood["flagged"] != ood["trials"]:
    wrong.append(f"ood: {ood['flagged']} of {ood['trials']} flagged, all are promised")
if ood["commands_after_flag"] != 0:
    wrong.append(f"ood: {ood['commands_after_flag']} commands after the flag, 0 are promised")
print("demo: " + ("; ".join(wrong) or "as promised"))
sys.exit(bool(wrong))
