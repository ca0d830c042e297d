"""What settings are called elsewhere, for messages that name the right one."""

# What else settings are called, in small letters without underscores, where spelling
# alone would suggest another one or none.
NICKNAMES: dict[str, str] = {
    word: name
    for name, words in {
        "lr0": "lr learningrate initiallr baselr initlr lrinit",
        "lrf": "finallr minlr lrmin endlr",
        "batch": "batchsize bs bsz batches trainbatchsize minibatch",
        "workers": "worker numworkers nworkers threads numthreads",
        "imgsz": "imgsize imagesize inputsize img size resolution res imagesz inputres",
        "epochs": "epoch nepochs numepochs maxepochs trainepochs",
        "optimizer": "optim opt optimiser",
        "weight_decay": "wd decay l2",
        "momentum": "mom beta1 beta",
        "warmup_epochs": "warmup",
        "pretrained": "pretrain init initweights",
        "weights": "weight ckpt checkpoint modelpath",
        "data": "dataset datasets datayaml datadir datapath",
        "model": "arch architecture network net",
        "device": "devices gpu gpus cuda accelerator",
        "conf": "confidence confthres confthreshold scorethreshold confthresh",
        "iou": "iouthres iouthreshold nmsthreshold nmsiou iouthresh",
        "max_det": "maxdets maxdetections",
        "patience": "earlystopping earlystop",
        "amp": "precision dtype fp16 bf16 mixedprecision",
        "seed": "randomseed randomstate rng",
        "clip_norm": "clip gradclip clipgrad maxgradnorm gradientclip",
        "cos_lr": "cosine coslr cosinelr scheduler schedule",
        "remat": "gradientcheckpointing checkpointing rematerialize",
        "save_period": "saveevery saveinterval checkpointperiod",
        "fliplr": "hflip horizontalflip flip",
        "flipud": "vflip verticalflip",
        "degrees": "rotate rotation degree angles",
        "classes": "class classids",
        "freeze": "freezelayers frozen",
        "augment": "tta",
        "source": "input inputs images img0 path",
        "save_txt": "savelabels labels",
        "line_width": "linethickness thickness",
        "tiles": "slice slices sahi tile",
        "rect": "rectangular",
        "single_cls": "singleclass",
        "multi_scale": "multiscaletraining",
    }.items()
    for word in words.split()
}

# Names users may know from elsewhere, with what to do instead or a plain "not yet".
NOT_YET: dict[str, str] = {
    "resume": "a run is resumed by its folder alone: yolojax train RUN, or pass the"
    " run's folder as --workdir",
    "project": "pass the run's folder as --workdir",
    "exist_ok": "pass the run's folder as --workdir",
    "save_dir": "pass the run's folder as --workdir",
    "mode": "it is a flag: --mode val",
    "cfg": "it is a flag: --config yolo11n",
    "simplify": "it is not needed, an exported file holds nothing to simplify; remove"
    " it",
} | dict.fromkeys(
    """
    cls_remap verbose deterministic compile channels_last distill_model dis
    quantize dnn visualize show optimize workspace rle dlog
    dgrad dlam augmentations
    """.split(),
    "it is not supported yet; remove it",
)
