"""Files that ship with the package: the embedded speech corpus, its loader and the script that built it."""
