"""The network of a run as a file for other programs, which need torchbase no more.

For: weights as safetensors, and the network with its code as a program of ``torch.export`` or as ONNX. Each file also
describes its run: the config, the values of the epoch and the versions.

In: a run directory; for a program, the session's class, whose methods build the network and an example mini-batch.
Out: one file, which appears as a whole.

Begin with `torchbase.export.exporting`. `torchbase.export.example` finds out what the network is called with,
`torchbase.export.program` and `torchbase.export.weights` write the files.
"""
