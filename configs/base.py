# SPDX-License-Identifier: Apache-2.0
"""Every key there is, its unit and its default.

A recipe starts from `get_config()` and changes a dozen lines.  A file written
for google-research/l2p is laid over these defaults at start-up, so it needs no
key of ours.  Names and meanings of the original's keys are kept.
"""

import ml_collections

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

  # What may be laid over any method against forgetting.
  config.regularizer = ''  # or ewc, lwf
  config.ewc_strength = 100.0
  config.lwf_strength = 1.0
  config.lwf_temperature = 2.0
  config.replay = ml_collections.ConfigDict()
  config.replay.capacity = 0  # images in the store; 0: no replay
  config.replay.policy = 'class_balanced'  # or reservoir
  config.replay.batch_size = 0  # per device and step; 0: per_device_batch_size
  config.replay.masked = False  # replayed images see their own task's classes
  config.replay.review_epochs = 0  # over the store alone, after each task
  config.replay.label_weight = 1.0  # of cross-entropy on replayed images
  config.replay.dark_weight = 0.0  # of the distance to stored logits (DER++)

  # Prompt gradient projection around any method, see train_lib/around.
  config.pgp = ml_collections.ConfigDict()
  config.pgp.enabled = False
  config.pgp.variant = 'released'  # bases among image numbers; or paper: among
  # embeddings
  config.pgp.collect = 'auto'  # before or after a task; auto: before in variant
  # released with prompts as tokens
  config.pgp.augment = True  # collected images, as in training
  config.pgp.num_images = 0  # collected in variant paper; 0: all of the task
  config.pgp.token_components = 9  # of variant released
  config.pgp.sequence_components = 5
  config.pgp.key_components = 5
  config.pgp.prefix_components = 50
  config.pgp.token_epsilon = 0.5  # share of energy that a basis holds
  config.pgp.sequence_epsilon = 0.9
  config.pgp.key_epsilon = 0.97
  config.pgp.prefix_epsilon = 0.5
  config.pgp.energy_power = 4  # of singular values; or 2, variant released
  config.pgp.first_task_rule = 'exclusive'  # of the component that crosses
  # epsilon; or inclusive, as later tasks have it, variant released
  config.pgp.prompt_term = 'auto'  # of tokens: sum (auto in variant released),
  # stack (auto in paper) beside the inputs; or none
  config.pgp.random_directions = False  # control: as many, drawn at random
  config.pgp.project_step = False  # the optimizer's step as well

  # Re-balancing of the head on draws from Gaussians of features, around any
  # method, see train_lib/around/rebalancing.py.
  config.rebalance = ml_collections.ConfigDict()
  config.rebalance.epochs = 0  # after each task but the first; 0: off
  config.rebalance.batch_ratio = 4  # rows of a step, per image of a batch
  config.rebalance.learning_rate = 1e-4  # at the first step, then a tenth of it
  # and half a cosine; for any number of rows
  config.rebalance.min_learning_rate = 1e-6  # likewise
  config.rebalance.weight_decay = 5e-4
  config.rebalance.clusters = 1  # Gaussians per class
  config.rebalance.augment = True  # features of images as in training; else as
  # in a test

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

  # E-prompts: a pool of prompts chosen by key.
  config.use_e_prompt = True
  config.e_prompt_layer_idx = (0,)
  config.use_prefix_tune_for_e_prompt = False  # else tokens
  config.prompt_position = 'before_cls'  # or after_cls, with positions (v1)
  config.same_key_value_for_pool = False  # no effect, as in the original
  config.reweight_prompt = False
  config.prompt_pool = True
  config.prompt_pool_param = ml_collections.ConfigDict()
  config.prompt_pool_param.pool_size = 10
  config.prompt_pool_param.length = 10  # tokens per prompt
  config.prompt_pool_param.top_k = 4
  config.prompt_pool_param.initializer = 'uniform'  # [0, 0.01), or normal,
  # normal_002, uniform_symmetric [-1, 1), uniform_unit [0, 1)
  config.prompt_pool_param.prompt_key = True  # learned keys
  config.prompt_pool_param.prompt_key_init = 'uniform'  # or zero, and as above
  config.prompt_pool_param.embedding_key = 'cls'  # or mean, max, mean_max
  config.prompt_pool_param.use_prompt_mask = False  # train the task's own
  config.prompt_pool_param.prefix_pairing = 'correct'  # or port: keys and
  # values of a batch mixed up, as in the PyTorch ports
  config.prompt_pool_param.shared_prompt_pool = False  # hand prompts on
  config.prompt_pool_param.shared_prompt_key = False  # hand keys on
  config.prompt_pool_param.batchwise_prompt = True  # vote per device's batch
  config.pull_constraint = True
  config.pull_constraint_coeff = 1.0

  # G-prompts: shared by all tasks.
  config.use_g_prompt = False
  config.g_prompt_length = 5
  config.g_prompt_layer_idx = (0, 1)
  config.use_prefix_tune_for_g_prompt = True
  config.same_key_value_for_shared = False

  # Prompts generated for each image by convolutions that belong to anchors.
  config.generation = ml_collections.ConfigDict()
  config.generation.layers = ()  # prompted blocks; (): all but the last
  config.generation.length = 20  # prompt tokens
  config.generation.kernel = 17  # side of the convolutions
  config.generation.anchors = 4  # and convolutions, that each task adds
  config.generation.anchors_by_task = ()  # one number per task instead
  config.generation.anchor_query = 'block'  # whose class token anchors are
  # compared with: block, or naive (of the plain backbone; where it is asked)
  config.generation.match_width = 0  # of anchors; 0: a quarter of the model's
  config.generation.train_anchors = False  # those of the task
  config.generation.drift_weight = 0.01  # of the distance that the embedding
  # moves in a task
  config.generation.token_mix_init = 'zeros'  # or normal (deviation 0.02)
  config.generation.attention_dropout = 0.2
  config.generation.post_softmax_scale = True  # layer attention is scaled twice
  config.generation.remat = False  # layer attention anew in the backward pass
  config.generation.freeze_generation_after_first = False  # task

  # A prompt of tokens that all images of all tasks share.
  config.vpt = ml_collections.ConfigDict()
  config.vpt.length = 10

  # Prompts of each block that are mixed and quantised.
  config.vq = ml_collections.ConfigDict()
  config.vq.layers = ()  # prompted blocks; (): the first five
  config.vq.pool_size = 10  # prompts and keys of each block
  config.vq.length = 8  # tokens; half of them for keys, half for values
  config.vq.temperature = 1.0  # of the softmax over keys
  config.vq.normalize_query = False  # keys always are
  config.vq.quantize = True  # else the mixture is the prompt
  config.vq.commitment_weight = 0.4  # of the distance that moves the mixture
  config.vq.codebook_weight = 0.1  # of the one that moves the pool's element

  # IT-Prompt: its prompts are E-prompts as prefixes, which these choose.
  config.it_prompt = ml_collections.ConfigDict()
  config.it_prompt.modality = 'image_text'  # or vision: prototypes of classes
  config.it_prompt.selector = 'learned'  # or zero_shot: stays as it starts
  config.it_prompt.select_rule = 'class'  # the best one's task; or task_sum:
  # that of the largest probability over its classes
  config.it_prompt.align = True  # the classifier on draws of all classes
  config.it_prompt.text_guide = 1.0  # weights of losses
  config.it_prompt.codebook = 0.4
  config.it_prompt.commitment = 0.1
  config.it_prompt.anchor = 1.0
  config.it_prompt.selector_batch = 128  # images a step, and draws beside them
  config.it_prompt.selector_epochs = 20
  config.it_prompt.selector_rate = 2.5e-4  # for 256 rows
  config.it_prompt.classifier_rate = 0.02  # times that of prompts, on images
  config.it_prompt.align_draws = 256  # a step, and of each class an epoch
  config.it_prompt.align_epochs = 10
  config.it_prompt.align_rate = 1e-4  # for 256 rows

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
  return config
