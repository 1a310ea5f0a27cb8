"""Labels of features, and where each came from."""

from __future__ import annotations

from featuredb.labels.files import Imported, import_labels
from featuredb.labels.table import add_label, labels_of, shown_label, shown_labels

__all__ = ["Imported", "add_label", "import_labels", "labels_of", "shown_label", "shown_labels"]
