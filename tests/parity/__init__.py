# SPDX-License-Identifier: Apache-2.0
"""Compares this code with recorded numbers of the original, file by file.

  python -m tests.parity ../shared/parity/official_l2p/*.npz
  python -m tests.parity ../shared/parity/torch_ports/torch_l2p_forward.npz

Every line is one recorded array (leaves of one parameter tree share a line):
largest absolute and relative difference, tolerance, PASS or FAIL.  The package
converts names and compares; all arithmetic is that of `models`, `train_lib` and
`input_pipeline`.

  fixture.py      a file, what kind it is, which of its arrays were looked at
  report.py       comparisons and their lines
  tolerances.py   how far a number may be off
  bridge.py       the original's configs and parameter trees -> ours
  replicas.py     the real steps on the devices a file asks for
  observation.py  the real training step, listened to
  parts.py        parts of models compiled once for all that are alike
  plain.py  pictures.py  pretrained.py                kinds without a network
  forward.py  training.py  evaluation.py  tasks.py    kinds with one
  torch_bridge.py  torch_forward.py  torch_vit.py     PyTorch ports
  torch_basis.py  torch_pgp.py  torch_pgp_steps.py    gradient projection
  torch_vq_bridge.py  torch_vq.py  torch_rebalance.py VQ-Prompt
  clip_tokens.py                                      CLIP's tokenizer
  streams.py      task streams around recorded batches
  kinds.py        kind -> function
  recordings.py  tampering.py       for the tests: reports, changed numbers

This file imports nothing: the number of devices must be set before JAX is
imported, see `__main__.py`.
"""
