"""The documentation: what it links to exists, what it shows works, and what is generated is up to date."""

import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from litestar.handlers import HTTPRouteHandler

from upnext.base.errors import BadConfig
from upnext.cli import app
from upnext.commands.distilling import DistillProject
from upnext.commands.project import Project, load_any_project, load_project
from upnext.repository import app as repository
from upnext.serving import app as http

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _load(name: str) -> Any:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate, results_tables = _load("generate"), _load("results_tables")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every fenced block of a language: where it is, and its text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
            yield f"{page.name}:{text[: match.start()].count(chr(10)) + 2}", match[1]


# --- generated pages -------------------------------------------------------------------------------------------------


def test_generated_files_are_up_to_date(capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def checkout(folder: Path, rows: list[dict[str, Any]] | None) -> Path:
    (folder / "docs" / "results").mkdir(parents=True)
    (folder / "README.md").write_text(f"# A\n\n{results_tables.BEGIN}\nold\n{results_tables.END}\nend\n")
    if rows is not None:
        (folder / "docs" / "results" / "quality-tiny.json").write_text(json.dumps(rows))
    return folder


def row(model: str, metric: str, value: float, **other: Any) -> dict[str, Any]:
    known = {
        "benchmark": "quality",
        "dataset": "tiny",
        "protocol": "global time, history kept",
        "variant": "tiny",
        "settings": {},
        "k": 10,
        "low": value - 0.01,
        "high": value + 0.01,
        "seeds": 1,
        "minutes": None,
        "command": "python benchmarks/quality.py tiny.toml",
        "commit": "abc1234",
        "machine": "a machine",
    }
    return known | {"model": model, "metric": metric, "value": value} | other


def test_check_names_what_is_out_of_date_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "ROOT", checkout(tmp_path, None))
    before = (tmp_path / "README.md").read_text()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err.count("is out of date") == 4
    assert (tmp_path / "README.md").read_text() == before
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert "No results are recorded yet" in (tmp_path / "README.md").read_text()
    assert "No results are recorded yet" in (tmp_path / "docs" / "results.md").read_text()


def test_results_become_tables(tmp_path):
    removed = {"protocol": "global time, history removed"}
    rows = [
        row("popular", "ndcg", 0.02),
        row("popular", "hr", 0.07),
        row("sasrec", "ndcg", 0.0612, minutes=1.5),
        row("sasrec", "ndcg", 0.1, k=50),
        row("sasrec", "hr", 0.18),
        row("sasrec", "coverage", 0.4, low=None, high=None),
        row("oracle", "ndcg", 0.3),
        row("oracle", "hr", 0.5),
        row("sasrec", "ndcg", 0.09, **removed),
        row("sasrec", "requests_per_s", 250, k=None, low=None, high=None, benchmark="serving"),
    ]
    pages = generate.generated(checkout(tmp_path, rows))
    readme = pages[tmp_path / "README.md"]
    assert readme.startswith("# A\n")
    assert readme.endswith("end\n")
    table = [line for line in readme.splitlines() if line.startswith("|")]
    assert table[2:] == [
        "| tiny | global time, history kept | sasrec | **0.0612** [0.051, 0.071] | **0.1800** |",
        "|  |  | popular | 0.0200 [0.010, 0.030] | 0.0700 |",
        "|  |  | oracle | 0.3000 [0.290, 0.310] | 0.5000 |",
    ]
    page = pages[tmp_path / "docs" / "results.md"]
    assert page.count("## tiny") == 1
    assert "| sasrec | **0.0612** [0.051, 0.071] | **0.1800** [0.170, 0.190] | – | 0.4000 | 1.5 |" in page
    assert "Protocol: global time, history removed." in page
    assert "* `python benchmarks/quality.py tiny.toml`\n  (commit abc1234, a machine, 1 seed)" in page
    assert "| serving | tiny | sasrec | tiny | requests_per_s | 250 |" in page


def test_what_was_foreseen_has_tables_of_its_own(tmp_path):
    def told(model: str, metric: str, value: float, feedback: str | None, **other: Any) -> dict[str, Any]:
        return row(model, metric, value, k=None, benchmark="argus feedback", feedback=feedback, **other)

    rows = [
        row("argus", "ndcg", 0.2, benchmark="argus ranking"),
        told("argus", "normalised_entropy", 0.91, "like", seeds_reach=0.004),
        told("mean", "normalised_entropy", 1.0, "like", low=1.0, high=1.0),
        told("oracle", "normalised_entropy", 0.5, "like"),
        told("argus", "mae", 12345.6, "seconds"),
        told("argus", "pair_accuracy", 0.7, "utility"),
        told("argus", "nip_loss", 5.5, None),
        told("sasrec", "nip_loss", 6.5, None),
        told("trees", "pair_accuracy", 0.8, "utility"),
    ]
    page = generate.generated(checkout(tmp_path, rows))[tmp_path / "docs" / "results.md"]
    assert "| Model | like: normalised entropy |" in page
    assert "| argus | **0.9100** [0.900, 0.920] ±0.004 |" in page
    assert "| mean | 1.0000 |" in page
    assert "| oracle | 0.5000 [0.490, 0.510] |" in page
    assert "| argus | **12,346** [12346, 12346] |" in page
    assert "| Model | Pair accuracy | Next-item loss |" in page
    assert "| argus | 0.7000 [0.690, 0.710] | **5.5000** [5.490, 5.510] |" in page
    assert "| trees | **0.8000** [0.790, 0.810] | – |" in page
    assert "## Other measurements" not in page


def test_two_variants_of_a_model_are_told_apart(tmp_path):
    rows = [row("sasrec", "ndcg", 0.1, variant="small"), row("sasrec", "ndcg", 0.2, variant="large")]
    page = generate.generated(checkout(tmp_path, rows))[tmp_path / "docs" / "results.md"]
    assert page.index("| sasrec (large) | **0.2000**") < page.index("| sasrec (small) | 0.1000")


def test_the_reference_has_every_key():
    text = generate.configuration_page(Project)
    for expected in ("### `[prepare.source]`", '`[pretrain.NAME.model]` with `kind = "sasrec"`', "| `port` | integer"):
        assert expected in text
    assert '| `window` | duration, above 0 | `"1d"` |' in text


# --- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_whole_projects(path):
    load_any_project(path)


MINIMAL = """
workspace = "runs/minimal"
[prepare.source]
kind = "table"
path = "events.csv"
user = "user"
item = "item"
[pretrain.sasrec.model]
kind = "sasrec"
[pretrain.popular-now.model]
kind = "recently_popular"
"""


def merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Put a part of a project into another: tables of a kind replace, other tables merge."""
    result = dict(whole)
    for key, value in part.items():
        is_table = isinstance(value, dict) and isinstance(result.get(key), dict) and "kind" not in value
        result[key] = merged(result[key], value) if is_table else value
    return result


def as_project(text: str) -> DistillProject:
    data = tomllib.loads(text)
    if "workspace" in data and "examples" in data and "prepare" not in data:
        return DistillProject.model_validate(data)
    if not {"workspace", "prepare", "pretrain"} <= data.keys():
        data = merged(tomllib.loads(MINIMAL), data)
    return Project.model_validate(data)


TOML = list(blocks("toml"))


@pytest.mark.parametrize(("where", "text"), TOML, ids=[where for where, _ in TOML])
def test_configurations_in_the_pages_parse(where, text):
    as_project(text)


def test_the_test_of_configurations_notices_a_wrong_key():
    with pytest.raises(ValueError, match="wdith"):
        as_project("[pretrain.sasrec.model]\nkind = 'sasrec'\nwdith = 3\n")


# --- commands --------------------------------------------------------------------------------------------------------

GROUP: Any = typer.main.get_command(app)


def shown_commands() -> Iterator[tuple[str, str]]:
    for where, text in blocks("sh"):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            if re.match(r"(?:[A-Z_]+=\S* )*(?:\S*/)?upnext\b", line):
                yield where, line


def upnext_arguments(line: str) -> list[str]:
    """The words after `upnext`; variables may be set before it."""
    words = shlex.split(line)
    return words[next(number for number, word in enumerate(words) if Path(word).name == "upnext") + 1 :]


def parse(arguments: list[str]) -> None:
    """Parse a command line as `upnext` would, without running it."""
    command, rest = command_of(arguments)
    command.make_context(command.name, rest)


def command_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that a line names, inside its group if it has one, and the words after its name."""
    command, rest = GROUP, arguments
    while hasattr(command, "commands"):
        assert set(rest[:1] or ["none"]) <= command.commands.keys(), f"there is no command {' '.join(arguments)!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


SHELL = list(shown_commands())


@pytest.mark.parametrize(("where", "line"), SHELL, ids=[f"{where} {line[:40]}" for where, line in SHELL])
def test_shown_commands_are_accepted(where, line):
    arguments = upnext_arguments(line)
    parse(arguments)
    values = [value for option, value in pairwise(arguments) if option == "--set"]
    files = [argument for argument in arguments if argument.endswith(".toml") and argument.startswith("examples/")]
    for file in files:
        load_any_project(ROOT / file, values)


def test_the_test_of_commands_notices_what_is_wrong():
    for line, words in (
        ("fly", "no command"),
        ("run a.toml --fast", "such option"),
        ("similar runs/demo", "item"),
        ("releases fly runs/demo", "no command"),
    ):
        with pytest.raises(Exception, match=words):
            parse(line.split())
    with pytest.raises(BadConfig):
        load_project(EXAMPLES[0], ["pretrain.sasrec.wdith=3"])


@EVERY_PAGE
def test_commands_named_in_prose_exist(page):
    text = without_blocks(page.read_text(encoding="utf-8"))
    for code in re.findall(r"`upnext ([^`]+)`", text):
        if code == "--help":
            continue
        command, rest = command_of(code.split())
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, f"upnext {code}"


@EVERY_PAGE
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z]+)`", text) + re.findall(r"^make ([a-z]+)$", text, flags=re.MULTILINE)
    assert set(named) <= targets


# --- links and paths -------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    text = without_blocks(page.read_text(encoding="utf-8"))
    return {generate.slug(heading.strip()) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


@EVERY_PAGE
def test_relative_links_and_images_resolve(page):
    text = without_blocks(page.read_text(encoding="utf-8"))
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


def test_the_tree_of_the_readme_is_the_repository():
    tree = next(text for where, text in blocks("text") if where.startswith("README") and "pipeline/" in text)
    listed = set()
    parents: list[str] = []
    for line in tree.splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        parents = [*parents[:indent], name]
        listed.add("".join(parents).rstrip("/"))
    assert [name for name in listed if not (ROOT / name).exists()] == []
    rooms = {f"upnext/{folder.parent.name}" for folder in (ROOT / "upnext").glob("*/__init__.py")}
    assert rooms - listed == set()


def test_routes_that_are_shown_are_served():
    handlers = [
        value for app in (http, repository) for value in vars(app).values() if isinstance(value, HTTPRouteHandler)
    ]
    served = ["/schema", *(path for handler in handlers for path in handler.paths)]
    patterns = [re.sub(r"\{[^}]*:(path|str)\}", ".+", path).rstrip("/") for path in served]
    shown = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown |= set(re.findall(r"http://127\.0\.0\.1:\d+(/[\w./{}-]*)", text))
        shown |= set(re.findall(r"`(?:GET |POST )?(/(?:v1|health|schema)[\w./{}-]*)`", text))
    assert len(shown) > 8
    assert [path for path in shown if not any(re.fullmatch(pattern, path.rstrip("/")) for pattern in patterns)] == []


@EVERY_PAGE
def test_lines_have_a_readable_width(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 122 and not line.startswith("|")] == []
