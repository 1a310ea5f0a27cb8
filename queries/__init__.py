"""Named queries: <noun>/<question>.sql, one statement each; featuredb reads them and runs them by name."""
