"""The digits with Lightning (`pip install lightning`); with_torchbase.py trains the same.

python examples/moving_over/with_lightning.py
"""

import torch
from digits_data import EPOCHS, LEARNING_RATE, MINI_BATCH_SIZE, Perceptron, read_digits
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


class DigitsModule(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.network(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log("val_loss", cross_entropy(logits, labels))
        self.log("val_accuracy", accuracy)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), LEARNING_RATE)
        iterations = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, iterations)
        lr_scheduler = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": lr_scheduler}


def train(network, training_loader, validation_loader):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        gradient_clip_val=1.0,
        callbacks=[
            EarlyStopping("val_loss", patience=3),
            ModelCheckpoint(monitor="val_loss"),
        ],
    )
    trainer.fit(DigitsModule(network), training_loader, validation_loader)
    values = trainer.callback_metrics
    return {
        "loss": values["val_loss"].item(),
        "accuracy": values["val_accuracy"].item(),
    }


if __name__ == "__main__":
    seed_everything(1)
    training_set, validation_set = read_digits()
    training_loader = DataLoader(training_set, MINI_BATCH_SIZE, shuffle=True)
    validation_loader = DataLoader(validation_set, MINI_BATCH_SIZE)
    print(train(Perceptron(), training_loader, validation_loader))
