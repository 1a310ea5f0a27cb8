"""The registry: plugins are found by entry point, ours like a stranger's, and a bad one breaks nothing else."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from featuredb.corpora import choose_plugin, open_corpus
from featuredb.corpus import CorpusOptions, Document
from featuredb.errors import BadInput, NotFound, PluginFailed
from featuredb.plugins import KINDS, Broken, Registry, guarded, guarded_iter
from featuredb.testing.corpora import CorpusContract

ROOT = Path(__file__).resolve().parent.parent
TEXT = "featuredb_plugins.text:TextFiles"

HAIKU = '''
"""Poems, one document a file."""
from featuredb.corpus import Document
from featuredb.errors import NotFound


class Haiku:
    """`haiku:COUNT`: that many poems."""

    name = "haiku.v2"
    suffixes = (".haiku",)

    def documents(self, source, options):
        if not source.isdigit():
            raise NotFound(f"no poems {source!r}")
        for number in range(int(source)):
            yield Document(f"haiku:{number}", f"an old silent pond {number}")


class Rude(Haiku):
    name = "rude.v1"
    suffixes = ()

    def documents(self, source, options):
        yield Document("one", "a frog jumps in")
        raise KeyError("splash")


class Lying(Haiku):
    name = "lying.v1"
    suffixes = (".txt", ".long.haiku")

    def documents(self, source, options):
        yield "a bare string"


class Mute:
    name = "mute.v1"
    suffixes = ()


class Nameless(Haiku):
    name = "somebody-else.v1"
'''


def corpora(**entries: str) -> Registry:
    return Registry([EntryPoint(name.replace("_", "-"), value, "featuredb.corpora") for name, value in entries.items()])


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A real distribution on disk and on the path: modules, metadata and entry points, as pip leaves them."""
    site = tmp_path / "site"
    info = site / "featuredb_haiku-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "featuredb_haiku.py").write_text(HAIKU)
    (site / "featuredb_exit.py").write_text("raise SystemExit(1)")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: featuredb-haiku\nVersion: 1.0\n")
    (info / "RECORD").write_text("")
    (info / "entry_points.txt").write_text(
        "[featuredb.corpora]\n"
        "haiku = featuredb_haiku:Haiku\n"
        "rude = featuredb_haiku:Rude\n"
        "lying = featuredb_haiku:Lying\n"
        "mute = featuredb_haiku:Mute\n"
        "nameless = featuredb_haiku:Nameless\n"
        "exit = featuredb_exit:Exit\n"
        "absent = featuredb_absent:Absent\n"
        "versioned.v1 = featuredb_haiku:Haiku\n"
    )
    monkeypatch.syspath_prepend(str(site))
    Registry.installed.cache_clear()
    yield Registry.installed()
    Registry.installed.cache_clear()
    for module in ("featuredb_haiku", "featuredb_exit"):
        sys.modules.pop(module, None)


class TestStrangersHaiku(CorpusContract):
    plugin_name = "haiku"
    missing_source = "none"

    @pytest.fixture
    def registry(self, stranger: Registry) -> Registry:
        return stranger

    def make_source(self, folder: Path) -> str:
        return "3"


def test_strangers_plugin_is_found_beside_ours(stranger: Registry, tmp_path: Path) -> None:
    assert {"haiku", "text", "jsonl", "parquet", "huggingface", "python-docs"} <= set(stranger.names("corpora"))
    assert [document.name for document in open_corpus("haiku.v2:2")] == ["haiku:0", "haiku:1"]
    (tmp_path / "a.haiku").write_text("")
    with pytest.raises(NotFound, match="no poems"):
        open_corpus(str(tmp_path / "a.haiku"))


@pytest.mark.usefixtures("stranger")
def test_ending_that_two_plugins_claim_is_not_decided_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("whose?")
    with pytest.raises(BadInput) as caught:
        open_corpus(f"{tmp_path}/a.txt")
    assert caught.value.message == f"more than one plugin reads '{tmp_path}/a.txt': lying, text"
    assert caught.value.hint == f"name one: lying:{tmp_path}/a.txt or text:{tmp_path}/a.txt"
    (tmp_path / "a.long.haiku").write_text("")
    assert choose_plugin(f"{tmp_path}/a.long.haiku")[0].name == "lying.v1"


def test_broken_plugins_are_reported_and_the_others_work(stranger: Registry, tmp_path: Path) -> None:
    reasons = {broken.name: broken.reason for broken in stranger.broken() if broken.kind == "corpora"}
    assert reasons == {
        "absent": "corpus plugin 'absent' does not load: No module named 'featuredb_absent'",
        "exit": "corpus plugin 'exit' does not load: 1",
        "mute": "corpus plugin 'mute' has no 'documents'",
        "nameless": "corpus plugin 'nameless' calls itself 'somebody-else.v1'",
        "versioned.v1": "corpus plugin 'versioned.v1' calls itself 'haiku.v2'",
    }
    assert {"haiku.v2", "text.v1"} <= {plugin.name for plugin in stranger.working("corpora")}
    (tmp_path / "a.md").write_text("still read")
    assert [document.text for document in open_corpus(str(tmp_path / "a.md"))] == ["still read"]


@pytest.mark.usefixtures("stranger")
def test_plugin_that_breaks_while_reading_fails_as_itself() -> None:
    documents = open_corpus("rude:1")
    assert next(documents).text == "a frog jumps in"
    with pytest.raises(PluginFailed, match=r"plugin 'rude\.v1' failed: KeyError: 'splash'"):
        next(documents)


@pytest.mark.usefixtures("stranger")
def test_plugin_that_gives_no_documents_fails_as_itself() -> None:
    with pytest.raises(PluginFailed, match=r"plugin 'lying\.v1' gave a str where a Document was due"):
        open_corpus("lying:1")


def test_two_plugins_of_one_name_are_refused() -> None:
    entries = [EntryPoint("text", value, "featuredb.corpora") for value in (TEXT, "other:Text")]
    registry = Registry([*entries, EntryPoint("jsonl", "featuredb_plugins.jsonl:JsonLines", "featuredb.corpora")])
    with pytest.raises(PluginFailed) as caught:
        registry.corpus("text")
    assert caught.value.message == "two corpus plugins are called 'text'"
    assert caught.value.hint == f"uninstall one of {TEXT} and other:Text"
    assert registry.broken() == [Broken("corpora", "text", "two corpus plugins are called 'text'")]
    assert [plugin.name for plugin in registry.working("corpora")] == ["jsonl.v1"]


def test_one_plugin_met_twice_is_one() -> None:
    registry = Registry([EntryPoint("text", TEXT, "featuredb.corpora")] * 2)
    assert registry.corpus("text").name == "text.v1"


def test_another_version_names_the_one_installed() -> None:
    registry = corpora(text=TEXT)
    assert registry.corpus("text.v1").name == "text.v1"
    with pytest.raises(NotFound) as caught:
        registry.corpus("text.v7")
    assert caught.value.message == "no corpus plugin called 'text.v7'"
    assert caught.value.hint == "installed: 'text.v1'"


@pytest.mark.parametrize(("asked", "hint"), [("txt.v1", "did you mean 'text'?"), ("zzz", "installed: text")])
def test_unknown_plugin_suggests_the_nearest_or_lists_all(asked: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        corpora(text=TEXT).corpus(asked)
    assert caught.value.hint == hint


def test_listing_imports_no_plugin() -> None:
    assert corpora(absent="featuredb_absent:Absent").names("corpora") == ["absent"]


def test_entry_points_of_other_groups_are_not_ours() -> None:
    registry = Registry([EntryPoint("x", "y:z", "featuredb.unheard-of"), EntryPoint("x", "y:z", "console_scripts")])
    assert [registry.names(kind) for kind in KINDS] == [[] for _ in KINDS]


def test_guard_lets_our_errors_and_interrupts_through() -> None:
    def raises(error: BaseException) -> Iterator[Document]:
        yield Document("a", "a")
        raise error

    for error in (BadInput("ours"), OSError("disk"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            list(guarded_iter("p", raises(error)))
    with pytest.raises(PluginFailed, match="plugin 'p' failed: ZeroDivisionError"):
        guarded("p", lambda: 1 // 0)


def test_entry_points_and_plugin_files_are_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared: dict[str, set[str]] = {}
    for kind in KINDS:
        for name, value in project["entry-points"].get(f"featuredb.{kind}", {}).items():
            declared.setdefault(value.partition(":")[0], set()).add(name.replace("-", "_"))
    for module, names in declared.items():
        # A format that is read and written, or several of one kind, may share a file.
        assert module.rpartition(".")[2] in names
    files = [
        f"featuredb_{folder}.{path.stem}"
        for folder in ("ingest", "plugins")
        for path in (ROOT / folder).glob("*.py")
        if not path.stem.startswith("_")
    ]
    assert sorted(declared) == sorted(files)


def test_our_plugins_all_load() -> None:
    assert Registry.installed().broken() == []


def test_reading_a_corpus_in_a_plugin_gets_the_options(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "b"}\n')
    documents = open_corpus(f"jsonl:{tmp_path}/a.jsonl", CorpusOptions(column="body"))
    assert [document.text for document in documents] == ["b"]


def test_engine_never_names_a_plugin_package() -> None:
    others = {"featuredb_ingest", "featuredb_plugins", "featuredb_queries", "featuredb_migrations"}
    named = []
    for path in (ROOT / "featuredb").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            named += [f"{path.name}: {module}" for module in modules if module.split(".")[0] in others]
    assert named == []
