# Copyright 2026 The JAX Continual Prompting Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Which of ImageNet's 1000 classes ImageNet-R has, and their names."""

# Places among the sorted WordNet ids of ImageNet 2012. TFDS stores ImageNet-R
# under these labels; here they become 0 to 199, in this order.
LABELS = (
    1, 2, 4, 6, 8, 9, 11, 13, 22, 23, 26, 29, 31, 39, 47, 63, 71, 76, 79, 84,
    90, 94, 96, 97, 99, 100, 105, 107, 113, 122, 125, 130, 132, 144, 145, 147,
    148, 150, 151, 155, 160, 161, 162, 163, 171, 172, 178, 187, 195, 199, 203,
    207, 208, 219, 231, 232, 234, 235, 242, 245, 247, 250, 251, 254, 259, 260,
    263, 265, 267, 269, 276, 277, 281, 288, 289, 291, 292, 293, 296, 299, 301,
    308, 309, 310, 311, 314, 315, 319, 323, 327, 330, 334, 335, 337, 338, 340,
    341, 344, 347, 353, 355, 361, 362, 365, 366, 367, 368, 372, 388, 390, 393,
    397, 401, 407, 413, 414, 425, 428, 430, 435, 437, 441, 447, 448, 457, 462,
    463, 469, 470, 471, 472, 476, 483, 487, 515, 546, 555, 558, 570, 579, 583,
    587, 593, 594, 596, 609, 613, 617, 621, 629, 637, 657, 658, 701, 717, 724,
    763, 768, 774, 776, 779, 780, 787, 805, 812, 815, 820, 824, 833, 847, 852,
    866, 875, 883, 889, 895, 907, 928, 931, 932, 933, 934, 936, 937, 943, 945,
    947, 948, 949, 951, 953, 954, 957, 963, 965, 967, 980, 981, 983, 988,
)

# What people call them: of the names that CLIP was evaluated with (openai/CLIP,
# notebook on ImageNet), those of the labels above.
NAMES = (
    'goldfish', 'great white shark', 'hammerhead shark', 'stingray', 'hen',
    'ostrich', 'goldfinch', 'junco', 'bald eagle', 'vulture', 'smooth newt',
    'axolotl', 'tree frog', 'green iguana', 'chameleon', 'Indian cobra',
    'scorpion', 'tarantula', 'centipede', 'peafowl', 'lorikeet', 'hummingbird',
    'toucan', 'duck', 'goose', 'black swan', 'koala', 'jellyfish', 'snail',
    'American lobster', 'hermit crab', 'flamingo', 'great egret', 'pelican',
    'king penguin', 'grey whale', 'killer whale', 'sea lion', 'Chihuahua',
    'Shih Tzu', 'Afghan Hound', 'Basset Hound', 'Beagle', 'Bloodhound',
    'Italian Greyhound', 'Whippet', 'Weimaraner', 'Yorkshire Terrier',
    'Boston Terrier', 'Scottish Terrier', 'West Highland White Terrier',
    'Golden Retriever', 'Labrador Retriever', 'Cocker Spaniel', 'collie',
    'Border Collie', 'Rottweiler', 'German Shepherd Dog', 'Boxer',
    'French Bulldog', 'St. Bernard', 'Siberian Husky', 'Dalmatian', 'pug',
    'Pomeranian', 'Chow Chow', 'Pembroke Welsh Corgi', 'Toy Poodle',
    'Standard Poodle', 'grey wolf', 'hyena', 'red fox', 'tabby cat', 'leopard',
    'snow leopard', 'lion', 'tiger', 'cheetah', 'polar bear', 'meerkat',
    'ladybug', 'fly', 'bee', 'ant', 'grasshopper', 'cockroach',
    'praying mantis', 'dragonfly', 'monarch butterfly', 'starfish',
    'cottontail rabbit', 'porcupine', 'fox squirrel', 'beaver', 'guinea pig',
    'zebra', 'pig', 'hippopotamus', 'bison', 'gazelle', 'llama', 'skunk',
    'badger', 'orangutan', 'gorilla', 'chimpanzee', 'gibbon', 'baboon',
    'giant panda', 'eel', 'clownfish', 'pufferfish', 'accordion', 'ambulance',
    'assault rifle', 'backpack', 'barn', 'wheelbarrow', 'basketball', 'bathtub',
    'lighthouse', 'beer glass', 'binoculars', 'birdhouse', 'bow tie', 'broom',
    'bucket', 'cauldron', 'candle', 'cannon', 'canoe', 'carousel', 'castle',
    'mobile phone', 'cowboy hat', 'electric guitar', 'fire truck', 'flute',
    'gas mask or respirator', 'grand piano', 'guillotine', 'hammer',
    'harmonica', 'harp', 'hatchet', 'jeep', 'joystick', 'lab coat',
    'lawn mower', 'lipstick', 'mailbox', 'missile', 'mitten', 'parachute',
    'pickup truck', 'pirate ship', 'revolver', 'rugby ball', 'sandal',
    'saxophone', 'school bus', 'schooner', 'shield', 'soccer ball',
    'space shuttle', 'spider web', 'steam locomotive', 'scarf', 'submarine',
    'tank', 'tennis ball', 'tractor', 'trombone', 'vase', 'violin',
    'military aircraft', 'wine bottle', 'ice cream', 'bagel', 'pretzel',
    'cheeseburger', 'hot dog', 'cabbage', 'broccoli', 'cucumber', 'bell pepper',
    'mushroom', 'Granny Smith apple', 'strawberry', 'lemon', 'pineapple',
    'banana', 'pomegranate', 'pizza', 'burrito', 'espresso', 'volcano',
    'baseball player', 'scuba diver', 'acorn',
)
