"""The catalog: what is small, relational and changes. Rows only; no connections, no files and no answers here.

Types are those that SQLite and PostgreSQL share, so that the same models serve a catalog given by URL.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC, whatever the database keeps of time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Constraints are named by rule, so that a later migration can find each on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: String,
        float: Double,
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


def _now() -> datetime:
    return datetime.now(UTC)


class ModelRow(Base):
    """A model whose activations were captured; another fingerprint is another row."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("name", "fingerprint"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    source: Mapped[str]
    fingerprint: Mapped[str]
    architecture: Mapped[str]
    n_layers: Mapped[int]
    d_model: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=_now)


class DictionaryRow(Base):
    """A dictionary whose weights the store holds."""

    __tablename__ = "dictionary"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    source: Mapped[str]
    plugin: Mapped[str]
    hook: Mapped[str]
    hooks_out: Mapped[list[str]]
    n_features: Mapped[int]
    d_in: Mapped[int]
    d_out: Mapped[int]
    fingerprint: Mapped[str]
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), index=True)
    trained: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    model: Mapped[ModelRow] = relationship()


class CorpusRow(Base):
    """A corpus that runs read."""

    __tablename__ = "corpus"
    __table_args__ = (UniqueConstraint("spec", "plugin"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    spec: Mapped[str]
    plugin: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=_now)


class RunRow(Base):
    """One finished ingest. Its key is a hash of everything that changes what it leaves."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), index=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpus.id"), index=True)
    n_tokens: Mapped[int] = mapped_column(BigInteger)
    n_contexts: Mapped[int] = mapped_column(BigInteger)
    n_kept: Mapped[int]
    context_length: Mapped[int]
    packing: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    model: Mapped[ModelRow] = relationship()
    corpus: Mapped[CorpusRow] = relationship()
    segments: Mapped[list[SegmentRow]] = relationship(back_populates="run", order_by="SegmentRow.id")


class SegmentRow(Base):
    """What one run leaves of one dictionary: a DuckDB file, and the vectors beside it."""

    __tablename__ = "segment"
    __table_args__ = (UniqueConstraint("run_id", "dictionary_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id"), index=True)
    path: Mapped[str] = mapped_column(unique=True)
    moments: Mapped[str | None]
    n_features: Mapped[int]
    n_examples: Mapped[int] = mapped_column(BigInteger)
    n_panel: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=_now)

    run: Mapped[RunRow] = relationship(back_populates="segments")
    dictionary: Mapped[DictionaryRow] = relationship()


class FileRow(Base):
    """A file the store answers for, by its path below the root."""

    __tablename__ = "file"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    role: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)
    dictionary_id: Mapped[int | None] = mapped_column(ForeignKey("dictionary.id"), index=True)


class LabelRow(Base):
    """One label of one feature, and where it came from. A failed one has a reason in `note` and no text."""

    __tablename__ = "label"
    __table_args__ = (Index(None, "dictionary_id", "feature_index"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id"))
    feature_index: Mapped[int]
    text: Mapped[str | None] = mapped_column(Text)
    labeler: Mapped[str]
    status: Mapped[str]
    author: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(Text)
    predicate: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    gain: Mapped[float | None]
    """How far its held-out scores lie from their baselines (0) to perfect (1), on average; None before it is scored."""
    provenance: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    dictionary: Mapped[DictionaryRow] = relationship()


class ScoreRow(Base):
    """A measured or stated figure of one label. One that could not be measured has a `reason` and no value."""

    __tablename__ = "score"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    label_id: Mapped[int] = mapped_column(ForeignKey("label.id", ondelete="CASCADE"), index=True)
    scorer: Mapped[str]
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int | None]
    failed: Mapped[int | None]
    baseline: Mapped[float | None]
    judge: Mapped[str | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(default=_now)


class AnswerRow(Base):
    """What a language model answered, by the hash of everything that was asked of it; never asked twice."""

    __tablename__ = "answer"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    asked: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str]
    text: Mapped[str] = mapped_column(Text)
    n_in: Mapped[int | None]
    n_out: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=_now)


class LabelEmbeddingRow(Base):
    """What one embedder makes of one label's text: (width,) little-endian float16 of unit length.

    Numbers are never used again, so that their count and largest tell whether anything has changed.
    """

    __tablename__ = "label_embedding"
    __table_args__ = (UniqueConstraint("label_id", "embedder"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    label_id: Mapped[int] = mapped_column(ForeignKey("label.id", ondelete="CASCADE"))
    embedder: Mapped[str] = mapped_column(index=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class ConceptRow(Base):
    """A named direction at one or more hooks of a model."""

    __tablename__ = "concept"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    model_name: Mapped[str | None]
    model_fingerprint: Mapped[str | None]
    method: Mapped[str]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    directions: Mapped[list[ConceptDirectionRow]] = relationship(
        back_populates="concept", order_by="ConceptDirectionRow.id", cascade="all, delete-orphan", passive_deletes=True
    )
    texts: Mapped[list[ConceptTextRow]] = relationship(
        order_by="ConceptTextRow.id", cascade="all, delete-orphan", passive_deletes=True
    )


class ConceptDirectionRow(Base):
    """The direction of a concept at one hook: (width,) little-endian float32, and how well it tells its own texts."""

    __tablename__ = "concept_direction"
    __table_args__ = (UniqueConstraint("concept_id", "hook"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    concept_id: Mapped[int] = mapped_column(ForeignKey("concept.id", ondelete="CASCADE"))
    hook: Mapped[str]
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    figures: Mapped[dict[str, Any]]

    concept: Mapped[ConceptRow] = relationship(back_populates="directions")


class ConceptTextRow(Base):
    """One of the contrasting texts behind a concept."""

    __tablename__ = "concept_text"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    concept_id: Mapped[int] = mapped_column(ForeignKey("concept.id", ondelete="CASCADE"), index=True)
    positive: Mapped[bool]
    text: Mapped[str] = mapped_column(Text)


class BaselineRow(Base):
    """What random directions score among the features of a dictionary, by one measure; worked out once."""

    __tablename__ = "baseline"
    __table_args__ = (UniqueConstraint("dictionary_id", "run_id", "measure", "seed"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id", ondelete="CASCADE"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    measure: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    n: Mapped[int]
    figures: Mapped[dict[str, Any]]


class FindingRow(Base):
    """What one check made of one feature of a dictionary, flagged or not; one that speaks of a label goes with it."""

    __tablename__ = "finding"
    __table_args__ = (Index(None, "dictionary_id", "feature_index", "plugin"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id", ondelete="CASCADE"))
    feature_index: Mapped[int]
    plugin: Mapped[str]
    """Name of the check, with its version."""
    name: Mapped[str]
    """What it is called in answers, such as "too-broad"."""
    score: Mapped[float]
    flagged: Mapped[bool]
    p: Mapped[float | None]
    q: Mapped[float | None]
    label_id: Mapped[int | None] = mapped_column(ForeignKey("label.id", ondelete="CASCADE"), index=True)
    evidence: Mapped[dict[str, Any]]
    suggestion: Mapped[str | None] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=_now)


class VerdictRow(Base):
    """What a person says of a finding. It outlives the finding, for the next audit may find the same again."""

    __tablename__ = "verdict"
    __table_args__ = (Index(None, "dictionary_id", "feature_index"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id", ondelete="CASCADE"))
    feature_index: Mapped[int]
    name: Mapped[str]
    label_id: Mapped[int | None] = mapped_column(ForeignKey("label.id", ondelete="CASCADE"), index=True)
    """The label that the finding was about; of another label's the person has said nothing."""
    verdict: Mapped[str]
    author: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=_now)


class LeftoverRow(Base):
    """A file whose owner is gone from the catalog and which is still to be deleted."""

    __tablename__ = "leftover"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
