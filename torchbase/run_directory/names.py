"""The names that several rooms know in a run directory."""

STATES_FOLDER = "states"  # checkpoints, and whatever else continues the run
NETWORK_FILE = "network.pth"  # the weights of the best network
