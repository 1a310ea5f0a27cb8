"""What labels that carry their evidence need: predicates, scores that failed or say more, and models' answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("label", sa.Column("predicate", sa.JSON(), nullable=True))
    op.add_column("label", sa.Column("gain", sa.Double(), nullable=True))
    with op.batch_alter_table("score") as table:
        table.alter_column("value", existing_type=sa.Double(), nullable=True)
        table.add_column(sa.Column("reason", sa.Text(), nullable=True))
        table.add_column(sa.Column("details", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("asked", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("n_in", sa.Integer(), nullable=True),
        sa.Column("n_out", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_answer"),
        sa.UniqueConstraint("asked", name="uq_answer_asked"),
    )
