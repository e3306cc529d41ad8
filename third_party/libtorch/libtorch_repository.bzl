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

def _libtorch_repository_impl(rctx):
    rctx.symlink(rctx.attr._build_file, "BUILD.bazel")
    root = rctx.os.environ.get(_ROOT)
    if not root:
        fetch_wheel(rctx, rctx.attr.torch, "torch/", _FILES, ", or set %s to an installed libtorch" % _ROOT)
        rctx.file("built_with_cuda.bzl", "BUILT_WITH_CUDA = True\n")
        return
    for file in ["lib/libtorch_cpu.so", "lib/libc10.so", "include/ATen/ATen.h", "include/tensorpipe/tensorpipe.h"]:
        if not rctx.path(root + "/" + file).exists:
            fail("%s=%s has no %s: set it to the folder of an installed libtorch (or Python's torch package) that was built with tensorpipe." %
                 (_ROOT, root, file))
    rctx.symlink(root + "/include", "include")
    rctx.symlink(root + "/lib", "lib")
    rctx.file("built_with_cuda.bzl", "BUILT_WITH_CUDA = %s\n" % rctx.path(root + "/lib/libc10_cuda.so").exists)

libtorch_repository = repository_rule(
    implementation = _libtorch_repository_impl,
    environ = [_ROOT],
    attrs = dict(
        wheel_attrs(),
        _build_file = attr.label(default = "//third_party/libtorch:libtorch.BUILD", allow_single_file = True),
        torch = attr.string(mandatory = True, doc = "A value of WHEELS."),
    ),
)
