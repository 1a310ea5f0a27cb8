"""What a token can be, said in English and checked by a program: a bank of predicates and expressions over them."""

from __future__ import annotations

from featuredb.predicates.bank import BANK, Predicate
from featuredb.predicates.expression import Expression, check, describe
from featuredb.predicates.tagged import Tagged

__all__ = ["BANK", "Expression", "Predicate", "Tagged", "check", "describe"]
