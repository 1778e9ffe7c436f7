# SPDX-License-Identifier: Apache-2.0
"""Every key that methods share, its unit and its default.

Options of one method stand in its file, `models/prompts/NAME.py`, and those of
what goes around any method in `train_lib/around`; `get_config` has them all.

A recipe starts from `get_config()` and changes a dozen lines.  A file written
for google-research/l2p is laid over these defaults at start-up, so it needs no
key of ours.  Names and meanings of the original's keys are kept.
"""

import ml_collections

from promptcl.models import prompts
from promptcl.models.parts import options
from promptcl.train_lib import around

# Keys of the original that change nothing here, with the reason.  A run that
# sets one is told so once.
UNREAD = {
    'eval_pad_last_batch': 'always padded; see eval_drop_remainder',
    'freeze_bn_stats': 'a ViT has no batch statistics',
    'log_loss_every_steps': 'training scalars are written once per epoch',
    'log_model_profile': 'see benchmarks/train_step.py',
    'mask_first_epoch': 'never read by the original either',
    'model_config': 'the model is chosen by model_name alone',
    'num_train_steps_per_task': 'steps follow from num_epochs',
    'offline_eval': 'never read by the original either',
    'predefined_key_path': 'never read by the original either',
    'prompt_mask_mode': 'never read by the original either',
    'recreate_eval': 'never read by the original either',
    'save_last_ckpt_only': 'the newest checkpoints are kept',
    'save_prompts': 'prompts are in every checkpoint',
    'shuffle_buffer_size': 'the order is an exact permutation',
    'split_core50': 'CORe50 is always split by session',
    'task_specific_cls_token': 'never read by the original either',
    'trial': 'never read by the original either',
    'use_prompt': 'see use_e_prompt and use_g_prompt',
}


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  config = ml_collections.ConfigDict()

  # Method and backbone.
  config.method = ''  # '': dualprompt if use_g_prompt, else l2p
  config.model_name = 'ViT-B_16'  # see models/networks
  config.init_checkpoint = ml_collections.FieldReference(None, field_type=str)
  # path or address (https, gs, hf); 'random' asks for random weights
  config.init_sha256 = ''  # of that file; checked when set
  config.cache_dir = ''  # of downloaded weights; '' is a per-user folder
  config.dtype = 'float32'  # of the computation; or bfloat16
  config.freeze_part = ('encoder', 'embedding', 'cls')  # parts of leaf paths
  config.thaw = ()  # regexes over whole leaf paths that train all the same
  config.preset = ''  # protocol laid over the recipe, see configs/presets.py
  config.seed = 42  # start values, data order, augmentation, dropout

  # Data.
  config.dataset = 'cifar100'  # name, npz:PATH, folder:PATH; several by commas
  config.data_dir = ''  # of TFDS; '' is its default place
  config.manual_dir = ''  # holds archives that were fetched by hand
  config.split_files = ()  # (train list, test list) of a folder's images
  config.input_size = 224  # pixels, side of what the ViT sees
  config.resize_size = 256  # pixels, side before cropping
  config.norm_01 = True  # inputs in [0, 1]; else dataset mean and deviation
  config.input_range = 'auto'  # norm_01 decides, or zero_one, minus_one_one,
  # imagenet, clip, dataset, weights (what the backbone was trained on)
  config.transform = 'jax'  # or torch_port, libcontinual, coda,
  # torchvision, clip_pgp, clean, clip
  config.augmentation = 'crop_flip'  # or crop, none
  config.subsample_rate = -1  # percent of each split; -1: all
  config.data_threads = 4  # per host

  # Task stream.
  config.continual = ml_collections.ConfigDict()
  config.continual.num_tasks = 10
  config.continual.num_classes_per_task = 10
  config.continual.scenario = 'class'  # or domain, dataset: what a task adds
  config.continual.init_cls = 0  # classes of a larger first task; 0: all equal
  config.continual.inc_cls = 0  # classes of each later task, with init_cls
  config.continual.rand_seed = -1  # -1: ascending; else seed of the class order
  config.continual.order_rule = 'numpy'  # generator of rand_seed: numpy (new
  # style), numpy_legacy, python
  config.continual.class_order = ()  # labels listed; instead of rand_seed
  config.continual.domain_order = ()  # names listed; (): the data set's own
  config.continual.domain_outputs = 'shared'  # or separate heads per domain
  config.continual.gaussian_steps = 5  # batches per episode, mode paper
  config.continual.eval_every_tasks = 0  # 0: 10 if gaussian_schedule, else 1
  config.continual.train_mask = True  # loss sees the task's classes only
  config.continual.eval_task_inc = False  # headline: task known at test time
  config.reverse_task = False
  config.gaussian_schedule = False
  config.gaussian_mode = ''  # '' or jax_released, paper

  # Training.
  config.per_device_batch_size = 16
  config.num_epochs = 5  # per task
  config.optim = 'adam'  # or adamw, sgd
  config.learning_rate = 0.03  # for 256 images per step; scaled linearly
  config.min_learning_rate = 0.0  # likewise
  config.learning_rate_schedule = 'constant'  # or cosine, linear,
  # cosine_by_epoch, freeze_cosine (min_learning_rate is then part of each rate
  # and not multiplied), lagged_cosine; see train_lib/steps/schedules.py
  config.freeze_cosine = ml_collections.ConfigDict()
  config.freeze_cosine.freeze_steps = 0  # per task, at min_learning_rate
  config.freeze_cosine.steps_per_epoch = 0  # to count with; 0: as there are
  config.freeze_cosine.first_step_factor = 1.0  # of learning_rate, at the first
  # step, which comes before the curve; 0: there is none
  config.learning_rate_multipliers = ()  # ((regex over leaf path, factor), ...)
  config.later_rate_multipliers = ()  # on top, from the second task on
  config.warmup_epochs = 0  # per task
  config.sgd_momentum = 0.9
  config.sgd_nesterov = True  # else torch's plain momentum
  config.weight_decay = 0.0
  config.gradient_decay = 0.0  # times parameters, added to their gradients
  # behind clipping and projection, as torch's SGD does
  config.later_gradient_decay = -1.0  # from the second task on; -1: the same
  config.optim_wd_ignore = ()  # parts of leaf paths that never decay
  config.grad_clip_max_norm = 1.0  # 0: no clipping
  config.grad_clip_scope = 'all'  # or trainable: saves frozen weight gradients
  config.reinit_optimizer = True  # at each task

  # What a text tower is told, see models/networks/text.py.
  config.text = ml_collections.ConfigDict()
  config.text.tokenizer = ''  # tokenizer.json, merges or a folder; '': beside
  # the weights
  config.text.templates = ()  # with {} for the name; (): those of the data set
  config.text.ensemble = True  # all of these; else the one to take alone
  config.text.context_tokens = 16  # learned for each task, in front of names

  # Classifier.
  config.vit_classifier = 'prompt'  # or token, gap, token+prompt; query
  config.use_cls_token = True
  config.norm_pre_logits = False
  config.temperature = 1.0
  config.head = 'linear'  # or cosine: similarity with a vector per class;
  # centroids: with the nearest of those of a class (it_prompt);
  # sentences: with what a text tower makes of learned context and names
  config.head_centroids = 5  # per class, of head centroids
  config.head_init = 'zero'  # or trunc_normal (deviation 0.02), torch_uniform
  config.task_heads = False  # a LayerNorm and a classifier for each task
  config.weight_norm = False  # unit-norm head columns before each step

  # Survival.
  config.checkpoint_every_steps = 500  # beside task ends; 0: at these only

  # Evaluation.
  config.eval_per_epochs = 1  # every so many epochs, and at each task end
  config.eval_every_steps = -1  # used if positive and eval_per_epochs is 0
  config.eval_cache_mib = 1024  # host memory for query features of test images;
  # what does not fit is computed again in each evaluation
  config.eval_last_only = False  # after the last task only
  config.num_eval_steps = -1  # at most so many batches per set; -1: all
  config.eval_drop_remainder = False  # drop the last partial batch
  config.eval_selection = 'config'  # headline: batchwise_prompt decides, or
  # batch, per_sample
  config.eval_order = 'stored'  # of the images of a set, or shuffled
  config.prompt_choice = 'key'  # at test time; controls: random, oracle
  config.zero_shot = ml_collections.ConfigDict()
  config.zero_shot.measure = False  # after each task: what CLIP still knows of
  # classes to come, with and without the prompts; see train_lib/zero_shot.py
  config.zero_shot.datasets = ()  # and of the classes of these
  config.headline_metrics = ('last_acc', 'F1')  # of train_lib/records
  config.eval_classes = 'all'  # that compete: all, or seen so far
  config.eval_until_own_task = False  # beside it: classes of tasks up to the
  # image's own, which tells a part of the task
  config.prompt_histogram = True

  # After the run: controls on the same data, see train_lib/comparisons.py.
  config.comparisons = ()  # their names
  options.mount(config, sections())
  return config


def sections() -> tuple[options.Section, ...]:
  """Options of all methods and of all parts around them."""
  return (*options.offered(prompts), *options.offered(around))
