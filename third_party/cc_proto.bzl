"""C++ messages and gRPC stubs from .proto files.

    ferry_cc_proto_library(
        name = "negotiation_cc_proto",
        srcs = ["negotiation.proto"],
        grpc = True,
        deps = ["//base:device_cc_proto"],
    )

gives a cc_library with "tensorferry/<package>/negotiation.pb.h" and
".grpc.pb.h". Files import each other as "tensorferry/<path>": protobuf keeps one
registry of file names in a process, and ends it if two libraries have a
"control/control.proto". protoc and grpc_cpp_plugin are flags:
//third_party/protobuf:protoc, //third_party/grpc:cpp_plugin.
"""

load("@rules_cc//cc:defs.bzl", "cc_library")

_IMPORTED_FROM = "tensorferry"

_ProtoFilesInfo = provider(fields = {"files": "depset of .proto files"})

def _imported_as(file):
    package_path = file.owner.package + "/" + file.owner.name
    return _IMPORTED_FROM + "/" + package_path

def _import_option(file):
    return "-I%s=%s" % (_imported_as(file), file.path)

def _generate_impl(ctx):
    files = depset(
        ctx.files.srcs,
        transitive = [dep[_ProtoFilesInfo].files for dep in ctx.attr.deps],
    )
    out_root = "/".join(
        [part for part in [ctx.bin_dir.path, ctx.label.workspace_root, ctx.label.package] if part],
    )
    arguments = ctx.actions.args()
    arguments.add_all(files, map_each = _import_option)
    arguments.add(out_root, format = "--cpp_out=%s")
    tools = []
    if ctx.attr.grpc:
        tools.append(ctx.executable._cpp_plugin)
        arguments.add(ctx.executable._cpp_plugin, format = "--plugin=protoc-gen-grpc=%s")
        arguments.add(out_root, format = "--grpc_out=%s")
    arguments.add_all(ctx.files.srcs, map_each = _imported_as)
    ctx.actions.run(
        arguments = [arguments],
        executable = ctx.executable._protoc,
        inputs = files,
        mnemonic = "FerryProto",
        outputs = ctx.outputs.outs,
        tools = tools,
    )
    return [_ProtoFilesInfo(files = files)]

_generate = rule(
    implementation = _generate_impl,
    attrs = {
        "deps": attr.label_list(providers = [_ProtoFilesInfo]),
        "grpc": attr.bool(),
        "outs": attr.output_list(mandatory = True),
        "srcs": attr.label_list(allow_files = [".proto"], mandatory = True),
        "_cpp_plugin": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "//third_party/grpc:cpp_plugin",
            executable = True,
        ),
        "_protoc": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "//third_party/protobuf:protoc",
            executable = True,
        ),
    },
)

def _generated_name(label):
    if ":" not in label:
        label += ":" + label.split("/")[-1]
    return label + "_generated"

def ferry_cc_proto_library(name, srcs, deps = [], grpc = False, **kwargs):
    """A cc_library with the messages (and stubs) of .proto files.

    Args:
      name: the cc_library.
      srcs: .proto files of this package.
      deps: other ferry_cc_proto_library targets whose files these import;
        Google's well-known types need none.
      grpc: whether to generate service stubs too.
      **kwargs: visibility, testonly and the like.
    """
    folder = _IMPORTED_FROM + "/" + native.package_name() + "/"
    stems = [folder + src[:-len(".proto")] for src in srcs]
    kinds = [".pb"] + ([".grpc.pb"] if grpc else [])
    hdrs = [stem + kind + ".h" for stem in stems for kind in kinds]
    sources = [stem + kind + ".cc" for stem in stems for kind in kinds]
    _generate(
        name = name + "_generated",
        srcs = srcs,
        outs = hdrs + sources,
        deps = [_generated_name(dep) for dep in deps],
        grpc = grpc,
        **kwargs
    )
    cc_library(
        name = name,
        srcs = sources,
        hdrs = hdrs,
        copts = ["-w"],
        # Not `includes`: the package's own limits.h would be <limits.h>.
        strip_include_prefix = _IMPORTED_FROM,
        include_prefix = _IMPORTED_FROM,
        deps = deps + [Label("//third_party/protobuf")] +
               ([Label("//third_party/grpc")] if grpc else []),
        **kwargs
    )
