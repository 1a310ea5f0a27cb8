"""SQL over a store: every view and table, named queries as their headers say, and no way out of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from featuredb.errors import BadInput, NotFound, StoreUnusable
from featuredb.labels import add_label
from featuredb.store import Store
from featuredb.store.catalog import FindingRow, ScoreRow, VerdictRow
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES
from featuredb.store.queries import Query, get_query, parse_query, queries, run_query
from featuredb.store.remove import remove_dictionary
from featuredb.store.sql import CATALOG_TABLES, SEGMENT_VIEWS, Sql
from tests.small_store import RUN, add_run, build


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def rows(store: Store, text: str, **params: object) -> list[tuple[Any, ...]]:
    table = Sql(store).run(text, params)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


class TestTables:
    def test_views_gather_every_segment_of_every_run(self, store: Store) -> None:
        add_run(store, "run-two", names=("alpha",))
        found = rows(store, "select run, dictionary, count(*) from feature group by all order by all")
        assert found == [("run-one", "alpha", 8), ("run-one", "beta", 5), ("run-two", "alpha", 8)]
        found = rows(store, "select run, count(*) from context group by all order by all")
        assert found == [("run-one", 4), ("run-two", 4)]
        found = rows(store, "select run, dictionary, value from meta where key = 'schema_version' order by all")
        assert found == [
            ("run-one", "alpha", "1"),
            ("run-one", "beta", "1"),
            ("run-one", None, "1"),
            ("run-two", "alpha", "1"),
            ("run-two", None, "1"),
        ]

    def test_run_and_dictionary_come_first(self, store: Store) -> None:
        for name in SEGMENT_VIEWS:
            columns = [column for column, _ in (FEATURE_TABLES.get(name) or CONTEXT_TABLES[name])]
            first = ["run"] if name in ("context", "document", "token") else ["run", "dictionary"]
            assert Sql(store).run(f"from {name}").column_names == first + columns

    def test_the_catalog_stands_beside_them(self, store: Store) -> None:
        with store.session() as session:
            label = add_label(session, "alpha/3", "cats", author="me")
            label.gain = 0.5
            session.add(ScoreRow(label_id=label.id, scorer="embedding.v2", value=0.75))
            about = {"dictionary_id": label.dictionary_id, "feature_index": 3, "label_id": label.id}
            found = {"plugin": "dense.v1", "score": 1.0, "flagged": True, "evidence": {"density": 0.5}, "seed": 0}
            session.add(FindingRow(name="dense", **about, **found))
            session.add(VerdictRow(name="dense", verdict="confirmed", **about))
        text = """
            select dictionary.name, label.feature_index, label.text, feature.n_fires, typeof(label.created_at)
            from label
            join dictionary on dictionary.id = label.dictionary_id
            join feature on feature.dictionary = dictionary.name and feature.feature = label.feature_index
        """
        assert rows(store, text) == [("alpha", 3, "cats", 30, "TIMESTAMP")]
        assert rows(store, "select gain from label") == [(0.5,)]
        assert rows(store, "select value, low from score") == [(0.75, None)]
        assert rows(store, "select name, flagged, evidence->>'density' from finding") == [("dense", True, "0.5")]
        for name in CATALOG_TABLES:
            assert rows(store, f"select count(*) from {name}")[0][0] > 0
        assert rows(store, "select settings->>'examples' from run") == [("4",)]

    def test_an_empty_store_has_every_table_and_no_rows(self, tmp_path: Path) -> None:
        with Store.create(tmp_path / "empty.fdb") as empty:
            for name in (*SEGMENT_VIEWS, *CATALOG_TABLES):
                assert rows(empty, f"select * from {name}") == []
            full = {name for (name,) in rows(empty, "show tables")}
            assert full == {*SEGMENT_VIEWS, *CATALOG_TABLES}

    def test_describe_and_explain_are_selects(self, store: Store) -> None:
        assert rows(store, "describe panel")[0][:2] == ("run", "VARCHAR")
        assert "feature" in rows(store, "explain select * from feature")[0][1]

    def test_parameters(self, store: Store) -> None:
        text = "select feature from feature where dictionary = $name and n_fires > $least order by feature"
        assert rows(store, text, name="beta", least=20) == [(3,), (4,)]
        with pytest.raises(BadInput, match=r"parameter \$least has no value"):
            rows(store, text, name="beta")
        with pytest.raises(BadInput, match=r"the statement has no parameter \$leest") as caught:
            rows(store, text, name="beta", least=1, leest=1)
        assert caught.value.hint == "did you mean 'least'?"


class TestRefused:
    @pytest.mark.parametrize(
        "statement",
        [
            "create table mine (a integer)",
            "insert into feature select * from feature",
            "with a as (select 1) insert into label select * from a",
            "delete from label",
            "update label set text = 'x'",
            "drop view feature",
            "copy (select 1) to '{out}'",
            "export database '{out}'",
            "attach '{out}'",
            "use memory",
            "set enable_external_access = true",
            "reset lock_configuration",
            "pragma enable_profiling",
            "install fts",
            "load fts",
            "call pragma_version()",
            "prepare a as select 1",
            "checkpoint",
            "vacuum",
        ],
    )
    def test_whatever_is_no_select(self, store: Store, tmp_path: Path, statement: str) -> None:
        out = tmp_path / "out"
        with pytest.raises(BadInput):
            rows(store, statement.format(out=out))
        assert not out.exists()

    @pytest.mark.parametrize(
        "call",
        [
            "read_text('{file}')",
            "read_blob('{file}')",
            "read_csv('{file}')",
            "read_json('{file}')",
            "read_parquet('{file}')",
            "glob('{folder}/*')",
            "sniff_csv('{file}')",
            "parquet_metadata('{file}')",
            "'{file}'",
            "query('from read_text(''{file}'')')",
            "read_duckdb('{file}')",
            "secret",
        ],
    )
    def test_files_of_the_machine(self, store: Store, tmp_path: Path, call: str) -> None:
        secret = tmp_path / "secret.csv"
        secret.write_text("a,b\n1,2\n")
        for text in ("select * from {}", "explain analyze select * from {}"):
            with pytest.raises((BadInput, StoreUnusable)):
                rows(store, text.format(call.format(file=secret, folder=tmp_path)))

    def test_an_extension_is_never_fetched(self, store: Store) -> None:
        for text in ("select * from read_parquet('https://example.com/x.parquet')", "select st_point(1, 2)"):
            with pytest.raises(BadInput):
                rows(store, text)

    def test_explain_analyze_writes_nothing(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(BadInput):
            rows(store, f"explain analyze copy (select 1) to '{tmp_path / 'out'}'")
        with pytest.raises(BadInput):
            rows(store, "explain analyze delete from feature")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("statement", "message", "hint"),
        [
            ("", "no statement where one is needed", "write one select"),
            ("select 1; select 2", "2 statements where one is needed", "write one select"),
            ("select * from features", "no table called 'features'", "did you mean 'feature'?"),
            ("select * from zzzzz", "no table called 'zzzzz'", "its tables: feature, example, panel, context"),
            ("selec 1", 'Parser Error: syntax error at or near "selec"', None),
            ("select nfires from feature", 'Binder Error: Referenced column "nfires" not found', "Candidate bindings"),
            ("select cast('x' as integer)", "Conversion Error: Could not convert string 'x'", None),
        ],
    )
    def test_mistakes_are_said_shortly(self, store: Store, statement: str, message: str, hint: str | None) -> None:
        with pytest.raises(BadInput) as caught:
            rows(store, statement)
        assert caught.value.message.startswith(message)
        assert "\n" not in caught.value.message
        assert (caught.value.hint or "").startswith(hint or "")

    def test_a_damaged_segment_is_named(self, store: Store) -> None:
        segment = store.paths.segment(RUN, "beta")
        segment.write_bytes(b"x" * 9000)
        with pytest.raises(StoreUnusable, match=r"runs/run-one/beta\.duckdb cannot be read") as caught:
            rows(store, "from feature")
        assert caught.value.hint == "run `featuredb check`"
        segment.unlink()
        with pytest.raises(NotFound, match=r"runs/run-one/beta\.duckdb is gone"):
            rows(store, "from feature")
        assert rows(store, "select count(*) from context") == [(4,)]

    def test_a_reader_with_a_segment_open_outlives_its_removal(self, store: Store) -> None:
        reader = duckdb.connect(str(store.paths.segment(RUN, "alpha")), read_only=True)
        remove_dictionary(store, "alpha")
        assert reader.execute("select count(*) from example").fetchone() == (22,)
        reader.close()


class TestQueries:
    EXAMPLES: dict[str, dict[str, object]] = {
        "context/tokens": {"run": RUN, "context": 1},
        "dictionary/summary": {},
        "feature/cofiring": {"dictionary": "alpha", "feature": 3},
        "feature/dead": {"dictionary": "alpha"},
        "feature/most_active": {"dictionary": "alpha", "k": 3},
        "feature/top_examples": {"feature": "alpha/3", "k": "2"},
    }

    @pytest.mark.parametrize("query", queries(), ids=lambda query: query.name)
    def test_each_does_what_its_header_says(self, store: Store, query: Query) -> None:
        params = self.EXAMPLES[query.name]
        assert query.title.endswith(".")
        assert query.sql.endswith(";")
        assert query.sql.count(";") == 1
        assert "order by" in query.sql
        assert run_query(store, query.name, params).num_rows > 0
        values = {one.name: one.default for one in query.params} | {"feature": 3} | params
        if "feature" in values and "dictionary" in values:
            values |= {"dictionary": "alpha", "feature": 3}
        shown = {one.name: values[one.name] for one in query.params}
        described = rows(store, f"describe ({query.sql.rstrip(';')})", **shown)
        assert [(name, kind) for name, kind, *_ in described] == list(query.returns)

    def test_answers(self, store: Store) -> None:
        add_run(store, "run-two", names=("alpha",))
        answer = {name: run_query(store, name, params).to_pylist() for name, params in self.EXAMPLES.items()}
        assert answer["feature/dead"] == [{"feature": 0, "n_tokens": 2000}]
        assert [(row["feature"], row["n_fires"]) for row in answer["feature/most_active"]] == [
            (7, 140),
            (6, 120),
            (5, 100),
        ]
        assert answer["feature/top_examples"] == [
            {"run": run, "context": 0, "position": 1, "activation": 3.0, "token": " the"}
            for run in ("run-one", "run-two")
        ]
        # Features fire on the first positions of the panel's context: 3 of 3 with itself, 3 of 4 with feature 4.
        assert answer["feature/cofiring"][:2] == [
            {"feature": 4, "n_both": 6, "n_other": 8, "jaccard": 0.75},
            {"feature": 2, "n_both": 4, "n_other": 4, "jaccard": 4 / 6},
        ]
        assert [(row["dictionary"], row["run"], row["n_dead"]) for row in answer["dictionary/summary"]] == [
            ("alpha", "run-one", 1),
            ("alpha", "run-two", 1),
            ("beta", "run-one", 1),
        ]
        assert [(row["position"], row["text"], row["document"]) for row in answer["context/tokens"]] == [
            (0, "<|end|>", None),
            (1, " the", "one.txt"),
            (2, " Cat", "one.txt"),
            (3, " sat", "one.txt"),
            (4, " the", "two.txt"),
            (5, " Cat", "two.txt"),
        ]

    def test_names_and_values_that_do_not_fit(self, store: Store) -> None:
        with pytest.raises(NotFound) as missing:
            get_query("feature/top_example")
        assert missing.value.hint is not None
        assert missing.value.hint.startswith("did you mean 'feature/top_examples'")
        for params, error, message in (
            ({"feature": 3}, BadInput, "needs a value for 'dictionary'"),
            ({"feature": "alpha/x"}, BadInput, "does not name a feature"),
            ({"feature": "alpha/99"}, NotFound, "no feature 99 in 'alpha'"),
            ({"feature": "alhpa/1"}, NotFound, "no dictionary called 'alhpa'"),
            ({"feature": "alpha/1", "k": "many"}, BadInput, "k = 'many' is not a whole number"),
            ({"feature": "alpha/1", "kk": 1}, BadInput, "takes no 'kk'"),
            ({"feature": "alpha/1", "dictionary": "beta"}, BadInput, "is not of dictionary 'beta'"),
        ):
            with pytest.raises(error, match=message):
                run_query(store, "feature/top_examples", params)
        with pytest.raises(NotFound, match="no run called 'run-1'"):
            run_query(store, "context/tokens", {"run": "run-1", "context": 0})

    def test_only_the_named_dictionary_is_opened(self, store: Store) -> None:
        store.paths.segment(RUN, "beta").write_bytes(b"broken")
        assert run_query(store, "feature/dead", {"dictionary": "alpha"}).num_rows == 1

    @pytest.mark.parametrize(
        "text",
        [
            "select 1;",
            "-- other/name\n-- T.\n-- params: none\n-- returns: a INTEGER\n-- order: a\nselect 1 as a order by a;",
            "-- n/q\n-- T.\n-- params: a\n-- returns: a INTEGER\n-- order: a\nselect 1;",
            "-- n/q\n-- T.\n-- params: none\n-- order: a\nselect 1;",
        ],
    )
    def test_a_header_out_of_form_is_our_own_mistake(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"n/q|'a' is not"):
            parse_query("n/q", text)
