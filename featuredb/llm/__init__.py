"""Language models as labelers and judges: what is asked, what an answer must be, what it may cost."""

from __future__ import annotations

from featuredb.llm.budget import BudgetReached, Estimate

__all__ = ["BudgetReached", "Estimate"]
