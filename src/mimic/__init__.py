"""mimic: mine cross-view pretraining pairs, pretrain MAE and CroCo on them, measure the encoder,
trace every number."""
