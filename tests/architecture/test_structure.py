"""What holds for the whole package."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import upnext

ROOT = Path(upnext.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "upnext."))


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_promises_is_there_and_sorted(name):
    module = importlib.import_module(name)
    promised = getattr(module, "__all__", [])
    assert len(set(promised)) == len(promised)
    assert all(hasattr(module, public) for public in promised)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    source = path.read_text()
    assert source.count("\n") <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.lineno} {node.name}"


def test_stages_stay_short():
    for path in (ROOT / "pipeline").glob("*.py"):
        assert path.read_text().count("\n") <= 200, path


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_imports_nothing_heavy():
    loaded = modules_after("import upnext.cli")
    assert not loaded & {"torch", "numpy", "polars", "pyarrow", "litestar", "matplotlib", "pydantic"}


def test_the_package_imports_nothing_heavy_before_a_name_is_used():
    loaded = modules_after("import upnext; upnext.__version__, dir(upnext)")
    assert not loaded & {"torch", "numpy", "polars", "pyarrow", "pydantic", "upnext.api", "upnext.base"}
    assert {"torch", "polars", "upnext.api"} <= modules_after("import upnext; upnext.SASRec")


def test_the_server_imports_nothing_that_only_training_needs():
    loaded = modules_after("import upnext.serving.app, upnext.serving.service")
    assert "torch" in loaded
    assert not loaded & {"polars", "matplotlib", "rich", "upnext.training", "upnext.losses", "upnext.events"}


def test_importing_has_no_side_effect(tmp_path):
    code = "import os; os.chdir(sys.argv[1] if len(sys.argv) > 1 else '.')\n"
    code += "\n".join(f"import {name}" for name in MODULES)
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
