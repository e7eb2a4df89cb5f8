"""A loop that is written by hand; with_torchbase.py trains the same.

python examples/moving_over/by_hand.py
"""

import copy

import torch
from digits_data import EPOCHS, LEARNING_RATE, MINI_BATCH_SIZE, Perceptron, read_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


def evaluate(network, loader):
    network.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in loader:
            logits = network(images)
            loss += cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(dim=1) == labels).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def train(network, training_loader, validation_loader):
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    iterations = EPOCHS * len(training_loader)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, iterations)
    losses, best = [], None
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for images, labels in training_loader:
            loss = cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        valid_loss, accuracy = evaluate(network, validation_loader)
        print(f"epoch {epoch}: loss {valid_loss:.4f}, accuracy {accuracy:.1%}")
        losses.append(valid_loss)
        if valid_loss == min(losses):
            best = copy.deepcopy(network.state_dict())
        if len(losses) - losses.index(min(losses)) > 3:  # it was three epochs ago
            break
    torch.save(best, "best.pt")
    return {"loss": losses[-1], "accuracy": accuracy}


if __name__ == "__main__":
    torch.manual_seed(1)
    training_set, validation_set = read_digits()
    training_loader = DataLoader(training_set, MINI_BATCH_SIZE, shuffle=True)
    validation_loader = DataLoader(validation_set, MINI_BATCH_SIZE)
    print(train(Perceptron(), training_loader, validation_loader))
