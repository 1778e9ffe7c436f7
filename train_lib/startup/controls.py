# SPDX-License-Identifier: Apache-2.0
"""Names of the controls and what each changes in a config.

Whether the loss of fine-tuning sees all classes or those of the task alone
changes the baseline more than most methods do (33.6 against 77.6 percent on
Split CIFAR-100 in two papers), so those that train the whole network come in
both forms: `NAME`, all classes, and `NAME_masked`, the task's own.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from promptcl.models.parts import base

# What any control starts from: nothing against forgetting, no controls of its
# own, prompts chosen as usual.
_PLAIN = {
    'comparisons': (), 'regularizer': '', 'replay.capacity': 0,
    'replay.batch_size': 0, 'replay.review_epochs': 0,
    'replay.dark_weight': 0.0, 'rebalance.epochs': 0, 'prompt_choice': 'key',
    'zero_shot.measure': False, 'zero_shot.datasets': ()}
_HEAD = {**_PLAIN, 'method': 'none', 'pgp.enabled': False,
         'vit_classifier': 'token', 'eval_selection': 'config',
         'learning_rate_multipliers': (), 'later_rate_multipliers': (),
         'thaw': (), 'freeze_part': ('encoder', 'embedding', 'cls'),
         'head': 'linear', 'task_heads': False}
# Published fine-tuning baselines of this family use SGD or Adam at small rates;
# this is the usual rate for fine-tuning a ViT with SGD.
_WHOLE = {**_HEAD, 'freeze_part': (), 'optim': 'sgd', 'learning_rate': 0.05,
          'continual.train_mask': False}
_STORE = {'replay.policy': 'class_balanced', 'replay.masked': False,
          'replay.label_weight': 1.0}
_MASKED = {'continual.train_mask': True}
# Images of each class in the store, where the config has no store.
IMAGES_PER_CLASS = 10

# Of those that train.
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    'frozen': _HEAD,
    'frozen_unmasked': {**_HEAD, 'continual.train_mask': False},
    'finetune': _WHOLE,
    'finetune_masked': {**_WHOLE, **_MASKED},
    'ewc': {**_WHOLE, 'regularizer': 'ewc'},
    'ewc_masked': {**_WHOLE, **_MASKED, 'regularizer': 'ewc'},
    'lwf': {**_WHOLE, 'regularizer': 'lwf'},
    'lwf_masked': {**_WHOLE, **_MASKED, 'regularizer': 'lwf'},
    'er': {**_WHOLE, **_STORE},
    # alpha and beta of Buzzega et al. (2020) for the larger of their data sets.
    'derpp': {**_WHOLE, **_STORE, 'replay.policy': 'reservoir',
              'replay.dark_weight': 0.2, 'replay.label_weight': 0.5},
    # New images are masked to their task's classes, so only replayed ones set
    # new classes against old: the store must take images while a task lasts,
    # which a class-balanced one does at its end only.
    'l2p_r': {**_PLAIN, **_STORE, 'replay.policy': 'reservoir'},
    'random_prompt': {**_PLAIN, 'prompt_choice': 'random'},
    'oracle_prompt': {**_PLAIN, 'prompt_choice': 'oracle'},
    # One long task: no schedule that counts with the steps of a short one.
    'joint': {**_WHOLE, 'freeze_cosine.steps_per_epoch': 0},
    'joint_prompts': {**_PLAIN, 'freeze_cosine.steps_per_epoch': 0,
                      'prompt_pool_param.use_prompt_mask': False,
                      'prompt_pool_param.shared_prompt_pool': False,
                      'prompt_pool_param.shared_prompt_key': False},
}
TITLES: Mapping[str, str] = {
    'class_mean': 'frozen backbone, nearest class mean',
    'frozen': 'frozen backbone + linear head',
    'frozen_unmasked': 'the same, loss on all classes',
    'finetune': 'sequential fine-tuning',
    'finetune_masked': "the same, loss on the task's classes",
    'ewc': 'fine-tuning with EWC',
    'ewc_masked': "the same, loss on the task's classes",
    'lwf': 'fine-tuning with LwF',
    'lwf_masked': "the same, loss on the task's classes",
    'er': 'fine-tuning with replay (ER)',
    'derpp': 'fine-tuning with replay (DER++)',
    'l2p_r': 'with replay',
    'random_prompt': 'random prompts at test time',
    'oracle_prompt': "the task's prompts at test time",
    'joint': 'joint fine-tuning (upper bound)',
    'joint_prompts': 'joint training of the method',
}
NAMES = tuple(TITLES)
# Score the trained state of the run once more.
RESCORED = ('random_prompt', 'oracle_prompt')
# Train on all tasks at once.
JOINT = ('joint', 'joint_prompts')
_STORING = ('er', 'derpp', 'l2p_r')


def override(config: ml_collections.ConfigDict, name: str, num_classes: int
             ) -> ml_collections.ConfigDict:
  """The config of a control, to be expanded.

  A store has the config's size, or `IMAGES_PER_CLASS` where it has none.
  """
  changes = dict(OVERRIDES[name])
  if name in RESCORED:  # the state must fit
    changes = {k: changes[k] for k in ('comparisons', 'prompt_choice')}
  if name in _STORING:
    changes['replay.capacity'] = (
        config.replay.capacity or IMAGES_PER_CLASS * num_classes)
  # A frozen config hands out its groups, not copies, to whoever thaws it.
  changed = ml_collections.ConfigDict(config).copy_and_resolve_references()
  with changed.ignore_type():
    changed.update_from_flattened_dict(changes)
  return changed


def check(config: ml_collections.ConfigDict, prompt: base.Prompt) -> None:
  """Refuses a control that the prompt of the config's method does not have.

  Raises:
    ValueError: one line, names the control.
  """
  for name in config.comparisons:
    if name in RESCORED and OVERRIDES[name]['prompt_choice'] not in (
        prompt.choices):
      missing = ('pool to choose from' if 'random' not in prompt.choices
                 else 'prompts that belong to a task')
      raise ValueError(f'config.comparisons names {name}, but the method '
                       f'{config.method} has no {missing}')
