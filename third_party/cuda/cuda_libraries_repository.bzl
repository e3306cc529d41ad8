"""What libtorch_cuda loads besides the CUDA runtime, from NVIDIA's wheels.

A repository of its own, as it is 2 GB to download that only a machine with a GPU
needs. With TENSORFERRY_LIBTORCH_ROOT it is what pip has installed beside torch.
"""

load("//third_party:python_wheel.bzl", "fetch_wheel", "wheel_attrs")

_ROOT = "TENSORFERRY_LIBTORCH_ROOT"

# Wheel -> its folder, and what libtorch_cuda needs of it: no more than it takes
# to load. What cuDNN, say, opens itself when it computes is left out.
_LIBRARIES = {
    "nvidia-cublas": ("cu13", ["libcublas.so.13", "libcublasLt.so.13"]),
    "nvidia-cuda-nvrtc": ("cu13", ["libnvrtc.so.13"]),
    "nvidia-cudnn-cu13": ("cudnn", ["libcudnn.so.9"]),
    "nvidia-cufft": ("cu13", ["libcufft.so.12"]),
    "nvidia-cufile": ("cu13", ["libcufile.so.0"]),
    "nvidia-cusparse": ("cu13", ["libcusparse.so.12"]),
    "nvidia-cusparselt-cu13": ("cusparselt", ["libcusparseLt.so.0"]),
    "nvidia-nccl-cu13": ("nccl", ["libnccl.so.2"]),
    "nvidia-nvjitlink": ("cu13", ["libnvJitLink.so.13"]),
    "nvidia-nvshmem-cu13": ("nvshmem", ["libnvshmem_host.so.3"]),
}

def _link_installed(rctx, root, path):
    installed = rctx.path(root + "/../" + path)
    if not installed.exists:
        fail("%s=%s has no ../%s: set it to a torch that pip installed for CUDA 13, or bind --@tensorferry//third_party/cuda:libraries to a label of your own." %
             (_ROOT, root, path))
    rctx.symlink(installed, "lib/" + installed.basename)

def _cuda_libraries_repository_impl(rctx):
    rctx.symlink(rctx.attr._build_file, "BUILD.bazel")
    root = rctx.os.environ.get(_ROOT)
    for wheel, (folder, libraries) in _LIBRARIES.items():
        paths = ["nvidia/%s/lib/%s" % (folder, library) for library in libraries]
        if root:
            for path in paths:
                _link_installed(rctx, root, path)
        else:
            fetch_wheel(
                rctx,
                rctx.attr.wheels[wheel],
                "nvidia/%s/" % folder,
                paths,
                ", or set %s to a torch that pip installed" % _ROOT,
            )

cuda_libraries_repository = repository_rule(
    implementation = _cuda_libraries_repository_impl,
    environ = [_ROOT],
    attrs = dict(
        wheel_attrs(),
        _build_file = attr.label(default = "//third_party/cuda:cuda_libraries.BUILD", allow_single_file = True),
        wheels = attr.string_dict(mandatory = True, doc = "What WHEELS has of NVIDIA's."),
    ),
)
