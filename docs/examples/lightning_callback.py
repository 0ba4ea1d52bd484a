"""Lightning: module and `Trainer` stay as they are, with their scheduler, and a callback prunes and retrains."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmark.api import sparsify


class Pruning(lightning.Callback):
    def on_train_start(self, trainer, module):
        (optimizer,) = trainer.optimizers
        self.sparse = sparsify(module, optimizer, sparsity=0.9, retrain=trainer.estimated_stepping_batches)
        optimizer.register_step_post_hook(lambda *_: self.sparse.step())  # whatever is accumulated, after each step


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch, _):
        inputs, labels = batch
        return nn.functional.cross_entropy(self.layers(inputs), labels)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


model = Classifier()  # load_from_checkpoint(...) where you have trained it
batches = DataLoader(TensorDataset(torch.randn(96, 64), torch.randint(10, (96,))), batch_size=8)
pruning = Pruning()
options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
lightning.Trainer(max_epochs=2, accumulate_grad_batches=2, callbacks=[pruning], **options).fit(model, batches)
