"""The command line. Options in, one library call, rows out: no SQL, no arithmetic and no torch here."""
