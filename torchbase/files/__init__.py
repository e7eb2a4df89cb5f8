"""Files that are whole on disk, or not there: the formats and the ways of writing that all other packages use.

For: writing a file, or a folder of files, so that a crash at any moment leaves either the old content or the new;
tensors without pickled code; JSON and JSON lines; append-only files that are truncated when a run goes back;
writing in the background.

In: paths, bytes, plain values, tensors. Out: the same, read back and checked. Nothing here knows of runs or
training.

Begin with `torchbase.files.durable`, then read `torchbase.files.tensors` and `torchbase.files.background_writes`.
"""
