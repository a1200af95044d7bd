"""`flywheel backup` and `flywheel restore`, as ops call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.cli import main


def test_what_was_backed_up_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After documents were lost, the home is again as it was, and the lost state lies beside it."""
    home, copy = tmp_path / "home", tmp_path / "copy"
    rows = [{"doc_id": name, "title": name} for name in ("d1", "d2")]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["--home", str(home), "init"]) == 0
    assert main(["--home", str(home), "import", "documents", str(tmp_path / "d.jsonl")]) == 0
    assert main(["--home", str(home), "backup", str(copy)]) == 0
    (tmp_path / "gone.jsonl").write_text(json.dumps({"doc_id": "d2", "deleted": True}))
    assert main(["--home", str(home), "import", "documents", str(tmp_path / "gone.jsonl")]) == 0
    assert main(["--home", str(home), "restore", str(copy), "--yes"]) == 0
    assert (tmp_path / "home.before-restore").is_dir()
    capsys.readouterr()
    assert main(["--home", str(home), "sql", "select doc_id, deleted from documents order by 1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"doc_id": "d1", "deleted": False},
        {"doc_id": "d2", "deleted": False},
    ]
