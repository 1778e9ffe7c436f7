# SPDX-License-Identifier: Apache-2.0
"""Wrong values of config keys, by themselves and together."""

from tests.wrong_inputs.row import setting

VALUES = (
    setting('an unknown way to tell the task',
            'it_prompt.select_rule=best',
            "config.it_prompt.select_rule is 'best', must be one of class, "
            'task_sum'),
    setting('a misspelt choice', 'optim=adagrad',
            "config.optim is 'adagrad', must be one of adam, adamw, sgd"),
    setting('an unknown method', 'method=l3p',
            "method 'l3p' is unknown, have METHODS"),
    setting('an unknown backbone', 'model_name=ViT-G_14',
            "config.model_name is 'ViT-G_14', must be one of BACKBONES"),
    setting('an unknown metric', "headline_metrics=('accuracy',)",
            "config.headline_metrics is 'accuracy', must be one of last_acc, "
            'caa, best_acc, micro_last_acc, micro_caa, micro_best_acc, '
            'learning_acc, F1, F2, F3, F4, F5, BWT, BWT-pairs, BWT-LibC, FWT'),
    setting('an unknown control', "comparisons=('frozn',)",
            "config.comparisons is 'frozn', must be one of class_mean, "
            'frozen, frozen_unmasked, finetune, finetune_masked, ewc, '
            'ewc_masked, lwf, lwf_masked, er, derpp, l2p_r, random_prompt, '
            'oracle_prompt, joint, joint_prompts'),
    setting('no images in a batch', 'per_device_batch_size=0',
            'config.per_device_batch_size is 0, must be positive'),
    setting('a learning rate that is not a number', 'learning_rate=nan',
            'config.learning_rate is nan, must be finite'),
    setting('a negative learning rate', 'learning_rate=-0.1',
            'config.learning_rate is -0.1, must not be negative'),
    setting('a seed beyond 32 bits', 'seed=4294967296',
            'config.seed is 4294967296, must be below 2^31'),
    setting('a layer that is no whole number', 'e_prompt_layer_idx=(0.5,)',
            'config.e_prompt_layer_idx lists 0.5, must list int only'),
    setting('numbers for parts of names', 'freeze_part=(1,2)',
            'config.freeze_part lists 1, must list str only'),
    setting('too many threads', 'data_threads=100000',
            'config.data_threads is 100000, must be at most 256'),
    setting('more than all images', 'subsample_rate=101',
            'config.subsample_rate is 101, must be at most 100'),
    setting('none of the images', 'subsample_rate=0',
            'config.subsample_rate is 0, must be -1 or positive'),
    setting('a broken regular expression',
            "learning_rate_multipliers=(('head(',2.0),)",
            "config.learning_rate_multipliers lists ('head(', 2.0), must "
            "list pairs (regular expression, factor); 'head(': missing ), "
            'unterminated subpattern at position 4'),
    setting('less than no of re-balancing', 'rebalance.epochs=-1',
            'config.rebalance.epochs is -1, must not be negative'),
    setting('half a checksum', 'init_sha256=abc',
            "config.init_sha256 is 'abc', must be the 64 hexadecimal digits "
            'of a SHA-256'),
)

TOGETHER = (
    setting('more prompts chosen than there are',
            'prompt_pool_param.top_k=5',
            'config.prompt_pool_param.top_k 5 is larger than pool_size 4'),
    setting('prompts beyond the last layer', 'e_prompt_layer_idx=(0,3)',
            'config.e_prompt_layer_idx names layer 3, but testing has layers '
            '0 to 2'),
    setting('prompts twice in a layer', 'e_prompt_layer_idx=(1,1)',
            'config.e_prompt_layer_idx (1, 1) names a layer twice'),
    setting('no layers for prompts', 'e_prompt_layer_idx=()',
            'config.e_prompt_layer_idx is empty'),
    setting('a pool that is off', 'prompt_pool=False',
            'config.use_e_prompt needs prompt_pool = True'),
    setting('a read-out of tokens that are prefixes',
            'use_prefix_tune_for_e_prompt=True',
            "config.vit_classifier 'prompt' reads prompt tokens, but the "
            'E-prompts are prefixes or off; use token or gap'),
    setting('the prompts of a task, without tasks', 'prompt_choice=oracle',
            "config.prompt_choice 'oracle' needs "
            'prompt_pool_param.use_prompt_mask: without it no prompts belong '
            'to a task'),
    setting('a crop larger than the picture', 'input_size=12',
            'config.input_size 12 (the crop) is larger than resize_size 10'),
    setting('pictures smaller than a patch', 'input_size=3',
            'input_size 3 is smaller than one patch (4) of testing'),
    setting('a warm-up as long as the training', 'warmup_epochs=1',
            'config.warmup_epochs 1 leaves none of the 1 epochs'),
    setting('frozen parts that do not exist', "freeze_part=('encodr',)",
            "freeze_part 'encodr' matches no parameter"),
    setting('everything frozen',
            "freeze_part=('encoder','embedding','cls','head','prompt')",
            "config.freeze_part ('encoder', 'embedding', 'cls', 'head', "
            "'prompt') freezes every parameter, nothing is left to train"),
    setting('a learning rate for parts that do not exist',
            "learning_rate_multipliers=(('heads/.*',2.0),)",
            "learning_rate_multipliers 'heads/.*' matches no parameter"),
    setting('a checksum of random weights',
            f'init_checkpoint=random init_sha256={"0" * 64}',
            'config.init_sha256 is set, but config.init_checkpoint random '
            'reads no file; clear one of them'),
    setting('a preset as a key', 'preset=paper',
            'config.preset is chosen with the recipe: --my_config '
            'RECIPE.py:PRESET'),
    setting('replay of nothing', 'replay.batch_size=2',
            'config.replay.batch_size 2 needs a store: set '
            'config.replay.capacity'),
    setting('a store without room for each class', 'replay.capacity=3',
            'config.replay.capacity 3 has no room for each of the 6 classes; '
            'raise it or set config.replay.policy reservoir'),
    setting('stored logits in a store that cannot keep them',
            'replay.capacity=12 replay.dark_weight=0.5',
            'config.replay.dark_weight keeps the logits of a picture as it '
            'enters the store, which needs config.replay.policy reservoir'),
    setting('projection of prompts that it does not know',
            'pgp.enabled=True e_prompt_layer_idx=(1,)',
            'config.pgp.enabled protects prompt tokens in layer 0 only; set '
            'e_prompt_layer_idx and g_prompt_layer_idx to (0,), or use '
            'prefixes'),
    setting('a rule of leaves to thaw that is no pattern', "thaw=('(',)",
            "config.thaw lists '('; '(': missing ), unterminated subpattern at "
            'position 0'),
    setting('a rule of leaves to thaw that matches nothing', "thaw=('norm',)",
            "thaw 'norm' matches no parameter"),
    setting('a second normalisation before heads that have their own',
            'task_heads=True norm_pre_logits=True',
            'config.norm_pre_logits has no effect before the LayerNorms of '
            'task_heads; set it to False'),
    setting('sentences without a text tower',
            'method=vpt vit_classifier=token head=sentences',
            'config.head sentences needs a text tower: model_name testing is '
            'none of CLIP-*'),
    setting('sentences without a tokenizer',
            'method=vpt vit_classifier=token head=sentences '
            'model_name=CLIP-testing init_checkpoint=random '
            'text.tokenizer=words.json',
            "no tokenizer 'words.json': set config.text.tokenizer to a "
            'tokenizer.json or to a file of merges'),
    setting('context without room for a name',
            'method=vpt vit_classifier=token head=sentences '
            'model_name=CLIP-testing init_checkpoint=random '
            'text.context_tokens=75',
            'config.text.context_tokens 75 leaves no room for a name among 77 '
            'tokens'),
    setting('sentences in heads of tasks',
            'method=vpt vit_classifier=token head=sentences task_heads=True',
            'config.task_heads has linear heads: set config.head to linear'),
    setting('a score of tasks up to the own one, without tasks',
            'eval_until_own_task=True gaussian_schedule=True',
            'config.eval_until_own_task needs tasks with classes of their own; '
            'set it to False'),
    setting('decay that grows parameters', 'gradient_decay=-0.1',
            'config.gradient_decay is -0.1, must not be negative'),
    setting('projection without prompts',
            'pgp.enabled=True method=none vit_classifier=token',
            'config.pgp.enabled finds no prompt tokens or prefixes to '
            'protect; switch it off or choose another method'),
    setting('prompts that do not halve',
            'method=vq_prompt vit_classifier=token vq.length=3',
            'config.vq.length 3 must be even: half of it goes to keys, half '
            'to values'),
    setting('quantised prompts beyond the last layer',
            'method=vq_prompt vit_classifier=token vq.layers=(0,3)',
            'config.vq.layers (0, 3) must name each of the layers 0 to 2 of '
            'testing once at most'),
    setting('quantised prompts chosen at random',
            'method=vq_prompt vit_classifier=token prompt_choice=random',
            "config.prompt_choice 'random' is for pools of which images "
            'choose; method vq_prompt has key only'),
    setting('a learning rate that is frozen for the whole task',
            'learning_rate_schedule=freeze_cosine '
            'freeze_cosine.freeze_steps=5 freeze_cosine.steps_per_epoch=5',
            'config.freeze_cosine.freeze_steps 5 leaves none of the 5 steps '
            'that num_epochs and freeze_cosine.steps_per_epoch make behind '
            'the warm-up'),
    setting('re-balancing of a frozen head',
            "rebalance.epochs=1 freeze_part=('encoder','head')",
            'config.rebalance.epochs trains the head, which is frozen here; '
            'set it to 0'),
    setting('re-balancing of a head per task',
            'rebalance.epochs=1 task_heads=True',
            'config.rebalance.epochs needs one head over all tasks; set '
            'config.task_heads to False'),
    setting('re-balancing after no task',
            'rebalance.epochs=1 gaussian_schedule=True',
            'config.gaussian_schedule has no task borders, which '
            'config.rebalance.epochs needs'),
    setting('re-balancing with another kind of optimizer',
            'rebalance.epochs=1 optim=sgd',
            'config.optim sgd does not go with the adamw of the method'),
    setting('an oracle control without task prompts',
            "comparisons=('oracle_prompt',)",
            'config.comparisons names oracle_prompt, but without '
            'prompt_pool_param.use_prompt_mask no prompts belong to a task'),
    setting('an oracle control of a method without a pool',
            "method=vpt comparisons=('oracle_prompt',)",
            'config.comparisons names oracle_prompt, but the method vpt has no '
            'pool to choose from'),
    setting('random prompts of a method without a pool',
            'method=vpt prompt_choice=random',
            "config.prompt_choice 'random' is for pools of which images "
            'choose; method vpt has key only'),
    setting('a read-out of tokens that a method does not have', 'method=none',
            "config.vit_classifier 'prompt' reads prompt tokens, and method "
            'none has none; use token'),
    setting('IT-Prompt without sentences',
            'method=it_prompt vit_classifier=token',
            'method it_prompt needs config.model_name CLIP-*, or '
            'it_prompt.modality vision; testing has no text tower'),
    setting('a vote among the prompts of tasks',
            'method=it_prompt it_prompt.modality=vision vit_classifier=token',
            'method it_prompt needs config.prompt_pool_param.batchwise_prompt '
            'False and no eval_selection batch: each image chooses for '
            'itself'),
    setting('two ways to balance a head',
            'method=it_prompt it_prompt.modality=vision rebalance.epochs=1',
            'method it_prompt needs config.rebalance.epochs 0: alignment is '
            'its own way to balance the head'),
    setting('zero-shot accuracy without a text tower',
            'zero_shot.measure=True',
            'config.zero_shot.measure needs a text tower and a method that '
            'asks for embeddings; l2p on testing is no such thing'),
    setting('data sets for measurements that are off',
            "zero_shot.datasets=('cub200',)",
            'config.zero_shot.datasets needs zero_shot.measure'),
    setting('two class orders',
            'continual.class_order=(5,4,3,2,1,0) continual.rand_seed=1',
            'continual.class_order is listed, so continual.rand_seed=1 has '
            'no effect; set it to -1'),
    setting('episodes with tasks at test time',
            'gaussian_schedule=True continual.eval_task_inc=True',
            'continual.eval_task_inc=True needs tasks at test time, and '
            'gaussian_schedule=True has none; set it to False'),
    setting('a mode of episodes without episodes', 'gaussian_mode=paper',
            "gaussian_mode='paper' is read only with gaussian_schedule=True"),
    setting('half of unequal tasks', 'continual.init_cls=2',
            'continual.init_cls=2 and continual.inc_cls=0 go together: '
            'classes of the first and of each later task, or both 0'),
)

STREAMS = (
    setting('classes that do not divide into tasks', 'continual.num_tasks=4',
            '6 classes of npz:data.npz do not divide into '
            'continual.num_tasks=4 tasks of continual.num_classes_per_task=2 '
            'classes (unequal tasks: set continual.init_cls and inc_cls)'),
    setting('a first task larger than all classes',
            'continual.init_cls=7 continual.inc_cls=1',
            'continual.init_cls=7 is more than the 6 classes of npz:data.npz'),
    setting('a class order that lacks classes', 'continual.class_order=(0,1)',
            'continual.class_order is not a permutation of the 6 labels of '
            'npz:data.npz: it has 2 entries and lacks [2, 3, 4, 5]'),
    setting('more tasks than prompts',
            'method=it_prompt it_prompt.modality=vision vit_classifier=token '
            'use_prefix_tune_for_e_prompt=True prompt_pool_param.top_k=1 '
            'prompt_pool_param.use_prompt_mask=True '
            'prompt_pool_param.batchwise_prompt=False '
            'prompt_pool_param.pool_size=2',
            'config.prompt_pool_param.pool_size 2 has no prompt for each of 3 '
            'tasks'),
    setting('a batch larger than a task', 'per_device_batch_size=6',
            'the global batch of 48 is larger than task 1 of npz:data.npz, '
            'which has 40 training images; lower per_device_batch_size'),
    setting('a test smaller than a batch that must be full',
            'per_device_batch_size=2 eval_drop_remainder=True',
            'eval_drop_remainder=True drops all 14 test images of task_1 of '
            'npz:data.npz: they do not fill a global batch of 16'),
    setting('a task without images', 'subsample_rate=1',
            'task 2 of npz:data.npz has no train images: none of the classes '
            '[2, 3] is in the 1 examples used (subsample_rate=1)'),
    setting('domains of data without domains', 'continual.scenario=domain',
            "continual.scenario='domain' needs a data set with domains, and "
            'npz:data.npz has none; an npz: file tells them by domain_names, '
            'train_domains and test_domains, a folder: by a second folder '
            'level'),
    setting('a sequence of one data set', 'continual.scenario=dataset',
            "continual.scenario='dataset' needs a sequence of data sets, but "
            'npz:data.npz is a single one; join several by commas in '
            'config.dataset, or use 5datasets'),
    setting('fewer episodes than classes',
            'gaussian_schedule=True gaussian_mode=paper num_epochs=1 '
            'continual.num_tasks=1 continual.gaussian_steps=1',
            'the Gaussian schedule of continual.num_tasks=1 episodes is 1 '
            'steps long, too short for 6 classes; raise num_tasks'),
)
