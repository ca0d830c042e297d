"""What can be wrong with the files of a data set.

A problem has a code for programs, which stays the same, and a text for people. Nothing
reads a code, a place or a count back out of a text.
"""

import dataclasses

CODES = {  # code -> what is wrong; where more is known, the problem's own text says it
    # Image files
    "unreadable_image": "the image cannot be read or decoded",
    "truncated_image": "the JPEG ends early",
    "image_too_small": "the image has too few pixels",
    "damaged_jpeg": "parts of the picture are damaged",
    "dark_16_bit": "16-bit values do not use their range: read as nearly black",
    # Lists of images
    "no_image_path": "a line is not the path of an image",
    # Label files, and rows that annotations become
    "unreadable_label": "the label file cannot be read",
    "not_text": "the label file is not UTF-8 text",
    "not_a_number": "a value is not a number",
    "mixed_polygon_and_box_rows": "some rows are polygons, some are boxes",
    "odd_polygon_values": "a polygon needs pairs of x and y",
    "polygon_too_short": "a polygon needs 3 points or more",
    "ragged_rows": "rows have different numbers of columns",
    "wrong_column_count": "a row has the wrong number of columns: a box has 5 (class"
    " cx cy w h), a polygon 7 or more (class x1 y1 x2 y2 x3 y3 ...), keypoints add"
    " their kpt_shape to a box",
    "coordinate_above_1.01": "coordinates must be relative to the image, 0..1",
    "negative_value": "a class or coordinate is negative",
    "non_integer_class": "a class is not a whole number",
    "class_out_of_range": "a class is not in `names` of the data description",
    "duplicates_removed": "identical rows were counted once",
    "flat_polygons": "polygons that enclose no area are kept",
    "box_and_more": "rows of 7 values are read as triangles, but look like a box with a"
    " confidence and a number behind it",
    "ids_from_one": "class ids seem to start at 1",
    "shared_label_file": "several images share the label file: each gets all its rows",
    "label_elsewhere": "is read, but lies elsewhere than the labels of its folder",
    "second_label_file": "is not read: another label file of its image is",
    # COCO's files
    "bad_image": "needs `id` and `file_name`",
    "duplicate_image_id": "the id of an image is taken",
    "missing_image": "the image is not there",
    "duplicate_image": "the image is listed again; what is said of it is put together",
    "image_size_differs": "the image has another size than stated",
    "not_an_object": "is no object",
    "unknown_image": "has an `image_id` that is not in `images`",
    "bad_iscrowd": "has an `iscrowd` that is neither 0 nor 1",
    "unknown_category": "`category_id` is not among the categories",
    "bad_bbox": "`bbox` must be four numbers: x, y, width, height in pixels",
    "bad_segmentation": "`segmentation` must be a list of polygons, each a list of x"
    " and y in turn, or run lengths with the size of the image",
    "bad_keypoints": "`keypoints` must hold x, y and visibility of each keypoint",
    "empty_boxes": "boxes without width or height are skipped",
    "no_keypoints": "annotations without a labelled keypoint are skipped",
    "no_outline": "objects without an outline are taken to fill their box",
    "bad_outline": "boxes are used, the outlines make no sense",
    "outline_off_box": "`segmentation` lies elsewhere than `bbox`, or has another size:"
    " boxes learn from the latter, masks from the former",
    # Class folders
    "empty_class": "the class folder holds no image",
    "unknown_class": "not a class that is trained",
    "no_class": "images lie beside the class folders, left out",
    "unusable_class": "no image of the class can be used",
}

CONFIGS = {  # task -> the config file that a message names
    "detect": "configs/yolo11n.py",
    "segment": "configs/yolo11n_seg.py",
    "pose": "configs/yolo11n_pose.py",
    "obb": "configs/yolo11n_obb.py",
    "classify": "configs/yolo11n_cls.py",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something wrong with one file, or with one thing in it."""

    file: str
    line: int | None  # of a label file, from 1
    code: str  # a key of CODES
    reason: str  # for people; "": what CODES says
    dropped: bool  # the image is left out
    within: str = ""  # where in a file of many labels, such as "annotation 7"
    count: int | None = None  # how many there are of it in the file, if counted
    hint: str = ""  # how it may have come about, in words that name nothing of the file

    def __post_init__(self) -> None:
        """Fills in the usual text.

        Raises:
            KeyError: the code is not in CODES.
        """
        usual = CODES[self.code]
        object.__setattr__(self, "reason", self.reason or usual)

    def __str__(self) -> str:
        """Returns "file:line: within: reason. hint (code): count"."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        within = f"{self.within}: " if self.within else ""
        count = "" if self.count is None else f": {self.count}"
        left_out = "; image left out" if self.dropped else ""
        text = f"{self.reason}. {self.hint}" if self.hint else self.reason
        return f"{place}: {within}{text} ({self.code}){count}{left_out}"
