"""Contract tests, one class for each kind of plugin: ours and a stranger's are held to the same."""
