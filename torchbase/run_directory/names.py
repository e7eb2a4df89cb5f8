"""The names in a run directory that several packages use."""

STATES_FOLDER = "states"  # checkpoints and other state that a resumed run needs
NETWORK_FILE = "network.pth"  # the weights of the best network
BEST_NETWORKS_FOLDER = "best_networks"  # the weights of several of the best networks, and their list
BAD_MINI_BATCHES_FOLDER = "bad_mini_batches"  # mini-batches whose loss was NaN or infinite
PROFILE_FOLDER = "profile"  # traces and tables of the profiler
VALIDATION_PREFIX = "validation-"  # of the phase of a validation set
LOSS = "loss"  # among the averages of a phase
TRAINING = "training"  # the name of the training phase
