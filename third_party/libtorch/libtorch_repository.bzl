"""libtorch, from its wheel or from TENSORFERRY_LIBTORCH_ROOT."""

load("//third_party:python_wheel.bzl", "fetch_wheel", "wheel_attrs")

_ROOT = "TENSORFERRY_LIBTORCH_ROOT"

# Python's and CUDA's parts of the wheel are larger and not needed here.
_FILES = [
    "torch/include/",
    "torch/lib/libc10.so",
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libgomp",
]

# libtorch_cpu of a CUDA build loads these even where there is no GPU.
_CUDA_LIBRARIES = [
    Label("//third_party/cuda:cudart"),
    Label("//third_party/cuda:cupti"),
]

def _write_cuda_libraries(rctx, built_with_cuda):
    labels = [
        "@%s//%s:%s" % (label.workspace_name, label.package, label.name)
        for label in _CUDA_LIBRARIES
    ] if built_with_cuda else []
    rctx.file("cuda_libraries.bzl", "CUDA_LIBRARIES = %r\n" % labels)

def _libtorch_repository_impl(rctx):
    rctx.symlink(rctx.attr._build_file, "BUILD.bazel")
    root = rctx.os.environ.get(_ROOT)
    if not root:
        fetch_wheel(rctx, "torch", "torch/", _FILES, ", or set %s to an installed libtorch" % _ROOT)
        _write_cuda_libraries(rctx, True)
        return
    for file in ["lib/libtorch_cpu.so", "lib/libc10.so", "include/ATen/ATen.h", "include/tensorpipe/tensorpipe.h"]:
        if not rctx.path(root + "/" + file).exists:
            fail("%s=%s has no %s: set it to the folder of an installed libtorch (or Python's torch package) that was built with tensorpipe." %
                 (_ROOT, root, file))
    rctx.symlink(root + "/include", "include")
    rctx.symlink(root + "/lib", "lib")
    _write_cuda_libraries(rctx, rctx.path(root + "/lib/libc10_cuda.so").exists)

libtorch_repository = repository_rule(
    implementation = _libtorch_repository_impl,
    environ = [_ROOT],
    attrs = dict(
        wheel_attrs(),
        _build_file = attr.label(default = "//third_party/libtorch:libtorch.BUILD", allow_single_file = True),
    ),
)
