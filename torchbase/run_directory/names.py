"""The names in a run directory that several packages use."""

STATES_FOLDER = "states"  # checkpoints and other state that a resumed run needs
NETWORK_FILE = "network.pth"  # the weights of the best network
