"""What the audit needs: findings, and what people say of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dictionary_id", sa.Integer(), nullable=False),
        sa.Column("feature_index", sa.Integer(), nullable=False),
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("p", sa.Double(), nullable=True),
        sa.Column("q", sa.Double(), nullable=True),
        sa.Column("label_id", sa.Integer(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("suggestion", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _of("dictionary", "finding"),
        _of("label", "finding"),
        sa.PrimaryKeyConstraint("id", name="pk_finding"),
    )
    op.create_index(
        "ix_finding_dictionary_id_feature_index_plugin", "finding", ["dictionary_id", "feature_index", "plugin"]
    )
    op.create_index("ix_finding_label_id", "finding", ["label_id"])
    op.create_table(
        "verdict",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dictionary_id", sa.Integer(), nullable=False),
        sa.Column("feature_index", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("label_id", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _of("dictionary", "verdict"),
        _of("label", "verdict"),
        sa.PrimaryKeyConstraint("id", name="pk_verdict"),
    )
    op.create_index("ix_verdict_dictionary_id_feature_index", "verdict", ["dictionary_id", "feature_index"])
    op.create_index("ix_verdict_label_id", "verdict", ["label_id"])


def _of(parent: str, child: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [f"{parent}_id"], [f"{parent}.id"], name=f"fk_{child}_{parent}_id_{parent}", ondelete="CASCADE"
    )
