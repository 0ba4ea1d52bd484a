"""Hugging Face's `Trainer`: it and its scheduler stay as they are, and a callback prunes and retrains."""

import tempfile

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification

from benchmark.api import sparsify


class Pruning(TrainerCallback):
    def on_train_begin(self, args, state, control, model, optimizer, **more):
        self.sparse = sparsify(model, optimizer, sparsity=0.9, retrain=state.max_steps)

    def on_step_end(self, args, state, control, **more):
        self.sparse.step()


config = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
)
model = ViTForImageClassification(config)  # from_pretrained(...) where you have trained it
examples = [{"pixel_values": torch.randn(3, 32, 32), "labels": k % 2} for k in range(48)]
pruning = Pruning()

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        learning_rate=0.01,
        warmup_steps=2,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(model, arguments, train_dataset=examples, callbacks=[pruning]).train()
