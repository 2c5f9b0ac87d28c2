"""LGA R-CNN with a ResNet-50-FPN on COCO 2017, the reference recipe.

    python train.py --config configs/coco.py --workdir runs/coco \
        --config.model.init_from=hf://timm/resnet50.tv_in1k/model.safetensors
    python eval.py --config configs/coco.py --workdir runs/coco

The schedule, sampling and losses are Detectron2's `faster_rcnn_R_50_FPN_1x` (90,000 steps of 16 images, short edge
640 to 800) with an ImageNet ResNet-50 in torchvision's arrangement. Every key of the project stands here; other recipes
start from this file and change values only. Any value can be set on the command line: --config.optim.lr=0.01.

Expected AP: not measured yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 16  # images per step, over all devices and processes
    config.images_at_once = (
        0  # images per device processed at a time; 0: all. Smaller uses less memory; must be 0 with "bn"
    )
    config.num_steps = 90_000
    config.log_every = 20  # steps
    config.tracker = ""  # "wandb" or "mlflow" gets the metrics and pictures too, besides TensorBoard's files
    config.checkpoint_every = 2_500  # steps
    config.eval_every = 10_000  # steps; the last step is always evaluated; 0: only the last
    config.eval_losses = False  # True: evaluation also computes the training losses on data.eval; takes twice the time
    config.eval_raw = False  # True: also scores the parameters without the moving average (ema_decay); doubles the time
    config.early_stopping = ConfigDict(
        dict(
            patience=0,  # stop after this number of evaluations without a better value; 0: never
            metric="AP",  # on data.eval; or "loss": the total of eval_losses. The best AP decides what is kept
        )
    )
    config.data = ConfigDict(
        dict(
            train=dict(
                source="coco_json",  # or "tfds", "mixed" (docs/data.md), "challenge" (the generated set)
                root="data/coco",
                annotations="annotations/instances_train2017.json",  # relative to root
                images="train2017",  # relative to root
                skip_empty=True,  # leave out images without a box to train on; False: train them as background
            ),
            eval=dict(
                source="coco_json",
                root="data/coco",
                annotations="annotations/instances_val2017.json",
                images="val2017",
                skip_empty=False,  # a score needs all images
            ),
            short_edges=(640, 672, 704, 736, 768, 800),  # pixels; training draws one of them per image
            eval_short_edge=800,  # pixels
            long_edge=1333,  # pixels, upper bound after resizing
            size_rounding="nearest",  # how resized heights and widths are rounded to pixels; or "floor"
            resize="bilinear",  # or "antialias": Pillow's filter, which becomes wider when an image shrinks
            # augment(config, "strong"), or --config.data.augment=strong, sets the next eight keys to a preset: "none",
            # "standard" (as here), "strong", "aerial" or "text". lga_jax/recipe/augmentation.py has their values.
            scale_jitter=(),  # or (0.1, 2.0): large-scale jitter instead of short_edges; 1.0 fits the bucket
            object_crop=0.0,  # probability that only a window around an object is seen (large images)
            flip_probability=0.5,  # left to right
            quarter_turns=0.0,  # probability of a turn by 90, 180 or 270 degrees (aerial images: 0.75)
            photometric=0.0,  # probability of each change: brightness, contrast, saturation, hue (SSD: 0.5)
            blur=0.0,  # probability of a Gaussian blur with a sigma from 0.5 to 1.5 pixels
            jpeg=0.0,  # probability of JPEG compression with a quality from 30 to 90
            copy_paste=0.0,  # probability that objects of another image are pasted in
            object_crop_sides=(
                400,
                800,
            ),  # object_crop: shortest and longest short side of the window, pixels of the stored image
            transform="",  # "FILE.py:NAME" or "MODULE:NAME": a function of your own (docs/extend.md)
            repeat_threshold=0.0,  # classes in a smaller share of the images are repeated (LVIS: 1e-3); 0: none
            buckets=((800, 1344), (1344, 800)),  # (height, width); an image is padded to the smallest that fits
            eval_buckets=(),  # buckets of evaluation; (): the same
            max_boxes=None,  # ground-truth slots per image; None: as many as the image with most boxes needs
            max_faulty=0.1,  # largest share of unreadable images and of unusable boxes; 1.0: no limit (docs/data.md)
            num_workers=8,  # decoding threads per process
            prefetch=2,  # batches kept ready on the devices
        )
    )
    config.model = ConfigDict(
        dict(
            dtype="bfloat16",  # type of activations; parameters, boxes and losses are float32
            pixel_mean=(123.675, 116.28, 103.53),  # RGB, 0..255 (ImageNet)
            pixel_std=(58.395, 57.12, 57.375),
            init_from="",  # a file, hf://ORG/REPO/FILE, package://NAME, a workdir; "": random (needs "bn" or "gn")
            init_strict=False,  # True: the file must fill every parameter of its parts, with nothing left over
            backbone=dict(
                name="resnet",  # a backbone of another family has other keys in this section
                depth=50,  # 18, 34, 50, 101, 152
                width=64,  # channels of the stem
                norm="frozen_bn",  # "frozen_bn", "bn" (statistics over all devices), "gn"
                norm_eps=1e-5,
                stride_in_1x1=False,  # stride of a bottleneck in its first 1x1 (Caffe); False: in its 3x3 (torchvision)
                frozen_stages=2,  # 0: none, 1: stem, 2: stem and layer1, ... 5: all
                remat=False,  # True: the backward pass computes each block again; less memory, more time
            ),
            fpn=dict(
                channels=256,
                norm="none",  # "none", "frozen_bn", "bn", "gn"; with a norm the convolutions have no bias
            ),
            anchors=dict(
                sizes=(32, 64, 128, 256, 512),  # pixels, one per level P2..P6
                aspect_ratios=(0.5, 1.0, 2.0),  # height / width
                rounded=False,  # True: corners of the base anchors rounded to pixels (torchvision)
                fixed_stride=True,  # cells are 4 to 64 pixels apart; False: input side // feature side (torchvision)
            ),
            rpn=dict(num_convs=1),
            anchor_sampling=dict(num_samples=256, positive_fraction=0.5, positive_iou=0.7, negative_iou=0.3),
            proposals=dict(
                pre_nms_train=2000,  # per level
                pre_nms_test=1000,
                post_nms_train=1000,  # per image, over all levels
                post_nms_test=1000,
                nms_iou=0.7,
                min_size=0.0,  # pixels
            ),
            roi_sampling=dict(num_samples=512, positive_fraction=0.25, positive_iou=0.5),
            cascade=dict(  # later RoI stages, one value of each key per stage; (): none
                attentions=(),  # as "none", "lga"
                positive_ious=(),  # as 0.6, 0.7; the first stage has roi_sampling's
                coder_scales=(),  # as 2.0, 3.0; the box deltas of the stage are multiplied by it
                loss_weights=(),  # as 0.5, 0.25; of all losses of the stage
            ),
            roi_align=dict(
                crop_size=7,
                sampling_ratio=2,  # points per cell and axis; 0: adaptive, one per pixel of the level (Detectron2)
                aligned=True,  # pixel centres at 0.5
            ),
            attention="lga",  # "lga", "cbam", "non_local", "squeeze_excitation", "deformable", "none"
            lga=dict(
                num_masks=4,  # k of the paper
                reduced_channels=64,  # output of f_d
                hidden=256,  # hidden units of f_c
                mu="softmax",  # centres: mean position of a heat map per mask; or "dense": from the whole crop
                sigma="per_axis",  # or "isotropic"
                fusion="sum",  # x + mean_k(x M_k), or "concat": a 1x1 convolution over [x, x M_1 .. x M_k]
                classifier="joint",  # the guide classifies all masked features together; or "shared": each alone
                # The guide classifies the region of every mask, read again from the backbone's first stage and also
                # added to the crop; or "c2": masked crops of the first stage; "pyramid": masked crops of the FPN.
                guide_level="close_up",
                close_up_points=6,  # per side of such a region
                close_up_channels=32,  # of each point, and of what a close-up adds up to
            ),
            cbam=dict(reduction=16, kernel_size=7),
            non_local=dict(reduction=2),
            squeeze_excitation=dict(reduction=16),
            deformable=dict(
                hidden=256,  # hidden units of the offsets
                scale=0.1,  # gamma: an output of 1 moves a cell by this share of the RoI's width or height
                samples=2,  # points per cell and axis
                modulated=True,  # also a weight per cell, from 0 to 2
            ),
            box_head=dict(
                num_convs=0,  # 3x3 convolutions before the dense layers
                num_fcs=2,
                hidden=1024,  # units of a dense layer
                norm="none",  # norm of the convolutions: "none", "bn", "gn", "frozen_bn"
                dense_init="detectron2",  # initial values of the dense layers; or "torchvision"
                class_agnostic=False,  # True: one box per RoI for all classes
            ),
            mask_head=dict(
                enabled=False,  # True: also predict masks of objects; the data must have them (Mask R-CNN)
                num_convs=4,  # 3x3 convolutions before the upsampling
                channels=256,  # of every convolution
                norm="none",  # norm of the 3x3 convolutions: "none", "bn", "gn", "frozen_bn"
                crop_size=14,  # cells per side of a crop; a mask has twice as many
                sampling_ratio=2,  # as in roi_align, whose `aligned` also applies here and to the true masks
            ),
        )
    )
    config.losses = ConfigDict(
        dict(
            rpn_box="l1",  # on the deltas of the RPN; or "giou", "diou", "ciou" on its boxes
            rpn_box_beta=0.0,  # "l1" only: smooth-L1 transition, in units of the deltas; 0: L1
            rpn_box_weight=1.0,  # weight of the RPN's box loss; about 10 for an IoU loss, whose values are smaller
            roi_class="cross_entropy",  # or "focal": less weight for RoIs whose class is already certain
            focal_gamma=2.0,  # "focal" only: the larger, the less certain RoIs count; 0: cross-entropy
            label_smoothing=0.0,  # share of the wanted probability spread over all classes, such as 0.1
            class_weights=(),  # factor of the class loss per class, in the order of the classes; (): 1
            balance_classes=False,  # True: class_weights from the numbers of boxes, rare classes count more
            federated=True,  # background counts only for the verified classes of an image, if the data list them (LVIS)
            roi_box="l1",  # on the deltas; or "giou", "diou", "ciou" on the boxes
            roi_box_beta=0.0,  # "l1" only: as rpn_box_beta
            roi_box_weight=1.0,  # weight of the box loss; about 10 for an IoU loss, whose values are smaller
            guide_weight=0.5,  # weight of the classification loss on the masked features
            mask_weight=1.0,  # weight of the mask loss
            guide_rois="foreground",  # RoIs of the guide loss, or "all"; divided by the number of all sampled RoIs
        )
    )
    config.dynamic = ConfigDict(
        dict(  # Dynamic R-CNN: model.roi_sampling.positive_iou rises and losses.roi_box_beta falls with the proposals
            window=0,  # steps between two changes, such as 100; 0: both stay fixed
            iou_rank=75,  # the positive IoU becomes the mean of the 75th highest IoU of each image's proposals
            error_rank=10,  # beta becomes the median of the (10 x images)-th lowest error of a step's positive RoIs
        )
    )
    config.inference = ConfigDict(
        dict(
            score_threshold=0.05,
            nms_iou=0.5,
            max_candidates=1000,  # best (RoI, class) pairs that enter the class-wise NMS
            min_size=0.0,  # pixels; a detection with a shorter side is dropped before NMS
            max_detections=100,
        )
    )
    config.optim = ConfigDict(
        dict(
            optimizer="sgd",  # or "adamw"
            lr=0.02,  # at lr_batch_size; scaled linearly with batch_size
            lr_batch_size=16,
            momentum=0.9,  # sgd only
            weight_decay=1e-4,  # on kernels and biases
            norm_weight_decay=0.0,  # on scales and biases of norms
            schedule="step",  # or "cosine" (to zero at num_steps)
            milestones=(60_000, 80_000),  # steps at which "step" multiplies by decay_factor
            decay_factor=0.1,
            warmup_steps=1000,  # linear
            warmup_factor=1e-3,  # share of the learning rate at step 0
            backbone_decay=1.0,  # factor per layer (part, block of a ViT), from the last to the stem; 1: none
            clip_norm=0.0,  # global gradient norm; 0: no clipping
            ema_decay=0.0,  # moving average of the parameters, used by evaluation; 0: none
        )
    )
    return config
