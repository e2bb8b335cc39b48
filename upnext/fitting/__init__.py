"""What trains a model on a log: data, objective, validation. The stages pretrain and finetune compose it."""
