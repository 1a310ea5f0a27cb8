"""The ingest plugins, one file each: they load or train dictionaries. Files that begin with _ belong to one of them."""
