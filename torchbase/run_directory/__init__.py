"""What a run leaves on disk for people and commands: its directory, config, environment and record.

For: the directory of one run, its name and its lock; the validated config and its snapshot; the description of the
machine; the record (status, epochs, hooks) that the command ``torchbase`` reads without torch; the newest run of a
folder.

In: a parent folder, a config dictionary, the progress of a run. Out: a `RunDirectory`, a validated `Config`, JSON
files. Checkpoints are written by the package above, ``checkpoints``; this package knows only the name of their folder.

Begin with `torchbase.run_directory.directory`, then read `torchbase.run_directory.config`.
"""
