"""One detached child with its folder, lock and exit-status file."""
