"""Published information about the sets: checksums of files, classes and sources."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class IdxFile:
    """One IDX file: the md5 of the published .gz and, where also published, the SHA-256 of its content."""

    name: str
    gz_md5: str
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A published set of labelled images.

    `fingerprints` (see `files.fingerprint`) were computed from files with the published md5; they recognise the
    same images in containers for which no checksum is published.
    """

    title: str
    image_shape: tuple
    class_names: tuple
    class_counts: dict
    homepage: str
    reference: str
    openml: str | None = None
    fingerprints: dict = dataclasses.field(default_factory=dict)

    def n_images(self, split):
        """The number of images in ``"train"`` or ``"test"``."""
        return sum(self.class_counts[split])


MNIST = ImageSet(
    title="MNIST",
    image_shape=(28, 28),
    class_names=tuple("0123456789"),
    class_counts={
        "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    },
    homepage="http://yann.lecun.com/exdb/mnist/",
    reference="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 86(11), 1998.",
    openml="mnist_784",
    fingerprints={
        "train": "9d8eeba6bf9c8b67238f298efb7b4969b9a114a57d5a1965da59bfa8dde274b6",
        "test": "b95ed1a0c48880c2c7e38b95f5accd69208dd0debd35518bac49cdbcd676aab9",
    },
)

FASHION_MNIST = ImageSet(
    title="Fashion-MNIST",
    image_shape=(28, 28),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    class_counts={"train": (6000,) * 10, "test": (1000,) * 10},
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    reference="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine "
    "learning algorithms. arXiv:1708.07747, 2017.",
    openml="Fashion-MNIST",
)

CIFAR10 = ImageSet(
    title="CIFAR-10",
    image_shape=(32, 32, 3),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    class_counts={"train": (5000,) * 10, "test": (1000,) * 10},
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    reference="A. Krizhevsky: Learning multiple layers of features from tiny images. Technical report, University of "
    "Toronto, 2009.",
    openml="CIFAR_10",
    fingerprints={
        "train": "d17523651dcffdf1be45e6671e5077f61b15cbf5376a64e556c870e6fb6066d3",
        "test": "ab21d127e2bbf4b95f1588dcadf3c8502b8fedb328dd5315bc7fa51b5ab965c0",
    },
)

CIFAR100 = dataclasses.replace(
    CIFAR10,
    title="CIFAR-100",
    class_names=tuple(map(str, range(100))),
    class_counts={"train": (500,) * 100, "test": (100,) * 100},
    openml=None,
    fingerprints={},
)

_IDX_NAMES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}

# For each file in this order: md5 of the published .gz, and SHA-256 of its content where that is published, too.
_IDX_CHECKSUMS = {
    "MNIST": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "d53e105ee54ea40749a09fcbcd1e9432 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "9fb629c4189551a2d022fa330f9573f3 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ec29112dd5afa0611ce80d1b7f02629c ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "Fashion-MNIST": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "25c81989df183df01b3e8a0aad5dffbe bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "bef4ecab320f06d8554ea6380940ec79 5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "bb300cfdad3c16e7a12a480ee83cd310 0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    # Included to recognise its files, which have the names and class counts of Fashion-MNIST's.
    "KMNIST": (
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
}

IDX_FILES = {
    title: {
        key: IdxFile(name, *checksums.split())
        for (key, name), checksums in zip(_IDX_NAMES.items(), all_checksums, strict=True)
    }
    for title, all_checksums in _IDX_CHECKSUMS.items()
}

# md5 of the unpacked files of the Python versions
CIFAR_MD5 = {
    "CIFAR-10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "CIFAR-100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}
