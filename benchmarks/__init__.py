"""How fast and how small featuredb is: one file for each figure, run together by `make bench`."""
