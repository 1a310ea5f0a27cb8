"""What finding needs: concepts, label scores and embeddings, a full-text index, and baselines of directions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The index holds no text of its own: it points to label's rows, and the triggers keep it in each one's transaction.
FULL_TEXT = (
    "create virtual table label_fts using fts5("
    "text, content='label', content_rowid='id', prefix='2 3', tokenize='porter unicode61 remove_diacritics 2')",
    "create trigger label_fts_insert after insert on label when new.text is not null begin "
    "insert into label_fts (rowid, text) values (new.id, new.text); end",
    "create trigger label_fts_delete after delete on label when old.text is not null begin "
    "insert into label_fts (label_fts, rowid, text) values ('delete', old.id, old.text); end",
    # One trigger for both halves: which of two runs first is not defined.
    "create trigger label_fts_update after update of text on label begin "
    "insert into label_fts (label_fts, rowid, text) select 'delete', old.id, old.text where old.text is not null; "
    "insert into label_fts (rowid, text) select new.id, new.text where new.text is not null; end",
    "insert into label_fts (rowid, text) select id, text from label where text is not null",
)


def upgrade() -> None:
    op.create_table(
        "score",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("label_id", sa.Integer(), nullable=False),
        sa.Column("scorer", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=True),
        sa.Column("failed", sa.Integer(), nullable=True),
        sa.Column("baseline", sa.Double(), nullable=True),
        sa.Column("judge", sa.String(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name="fk_score_label_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_score"),
    )
    op.create_index("ix_score_label_id", "score", ["label_id"])
    op.create_table(
        "label_embedding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("label_id", sa.Integer(), nullable=False),
        sa.Column("embedder", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["label_id"], ["label.id"], name="fk_label_embedding_label_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_label_embedding"),
        sa.UniqueConstraint("label_id", "embedder", name="uq_label_embedding_label_id_embedder"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_label_embedding_embedder", "label_embedding", ["embedder"])
    op.create_table(
        "concept",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=True),
        sa.Column("model_fingerprint", sa.String(), nullable=True),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_concept"),
        sa.UniqueConstraint("name", name="uq_concept_name"),
    )
    op.create_table(
        "concept_direction",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("concept_id", sa.Integer(), nullable=False),
        sa.Column("hook", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["concept_id"], ["concept.id"], name="fk_concept_direction_concept_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_concept_direction"),
        sa.UniqueConstraint("concept_id", "hook", name="uq_concept_direction_concept_id_hook"),
    )
    op.create_table(
        "concept_text",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("concept_id", sa.Integer(), nullable=False),
        sa.Column("positive", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["concept_id"], ["concept.id"], name="fk_concept_text_concept_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_concept_text"),
    )
    op.create_index("ix_concept_text_concept_id", "concept_text", ["concept_id"])
    op.create_table(
        "baseline",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dictionary_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("measure", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dictionary_id"], ["dictionary.id"], name="fk_baseline_dictionary_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_baseline_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_baseline"),
        sa.UniqueConstraint(
            "dictionary_id", "run_id", "measure", "seed", name="uq_baseline_dictionary_id_run_id_measure_seed"
        ),
    )
    op.create_index("ix_baseline_run_id", "baseline", ["run_id"])
    if op.get_bind().dialect.name == "sqlite":
        for statement in FULL_TEXT:
            op.execute(statement)
