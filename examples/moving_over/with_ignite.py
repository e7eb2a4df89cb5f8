"""The digits with Ignite (`pip install pytorch-ignite`); with_torchbase.py trains the same.

python examples/moving_over/with_ignite.py
"""

import torch
from digits_data import EPOCHS, LEARNING_RATE, MINI_BATCH_SIZE, Perceptron, read_digits
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.handlers import EarlyStopping, ModelCheckpoint
from ignite.metrics import Accuracy, Loss
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


def train(network, training_loader, validation_loader):
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    iterations = EPOCHS * len(training_loader)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, iterations)

    def update(engine, batch):
        images, labels = batch
        network.train()
        optimizer.zero_grad()
        loss = cross_entropy(network(images), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    def negative_loss(engine):
        return -engine.state.metrics["loss"]

    trainer = Engine(update)
    metrics = {"loss": Loss(cross_entropy), "accuracy": Accuracy()}
    evaluator = create_supervised_evaluator(network, metrics)

    @trainer.on(Events.ITERATION_COMPLETED)
    def step_scheduler(engine):
        scheduler.step()

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(validation_loader)
        print(f"epoch {engine.state.epoch}: {evaluator.state.metrics}")

    stopping = EarlyStopping(patience=3, score_function=negative_loss, trainer=trainer)
    best = ModelCheckpoint("best", score_function=negative_loss, require_empty=False)
    evaluator.add_event_handler(Events.COMPLETED, stopping)
    evaluator.add_event_handler(Events.COMPLETED, best, {"network": network})
    trainer.run(training_loader, max_epochs=EPOCHS)
    return evaluator.state.metrics


if __name__ == "__main__":
    torch.manual_seed(1)
    training_set, validation_set = read_digits()
    training_loader = DataLoader(training_set, MINI_BATCH_SIZE, shuffle=True)
    validation_loader = DataLoader(validation_set, MINI_BATCH_SIZE)
    print(train(Perceptron(), training_loader, validation_loader))
