"""The data and the network of the programs in this folder: digits of scikit-learn, and a perceptron."""

import torch
from sklearn.datasets import load_digits

EPOCHS, MINI_BATCH_SIZE, LEARNING_RATE = 6, 32, 0.01


class Perceptron(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def read_digits():
    """Returns 1,400 images of 64 pixels with their labels for training, and 397 for validation."""
    digits = load_digits()
    images = torch.tensor(digits.data).float() / 16
    dataset = torch.utils.data.TensorDataset(images, torch.tensor(digits.target))
    return torch.utils.data.Subset(dataset, range(1400)), torch.utils.data.Subset(dataset, range(1400, 1797))
