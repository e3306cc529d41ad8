"""Repositories for libraries that are installed on this machine.

pkg-config says how to compile and link them. TENSORFERRY_<NAME>_ROOT (say,
TENSORFERRY_GRPC_ROOT) makes it look in that installation instead.
"""

_PKGCONFIG_DIRS = ["lib/pkgconfig", "lib64/pkgconfig", "lib/x86_64-linux-gnu/pkgconfig", "share/pkgconfig"]

def _install_hint(rctx):
    return "install %s, or set %s to the folder it is installed in" % (rctx.attr.package, rctx.attr.root_variable)

def _pkg_config(rctx, root, arguments):
    pkg_config = rctx.which("pkg-config")
    if not pkg_config:
        fail("tensorferry finds its libraries with pkg-config: install pkg-config.")
    environment = {}
    if root:
        environment["PKG_CONFIG_PATH"] = ":".join([root + "/" + folder for folder in _PKGCONFIG_DIRS])
    return rctx.execute([pkg_config] + arguments, environment = environment)

def _query(rctx, root, arguments):
    result = _pkg_config(rctx, root, arguments)
    if result.return_code:
        fail("tensorferry's `pkg-config %s` failed (%s): %s." %
             (" ".join(arguments), result.stderr.strip(), _install_hint(rctx)))
    return [word for word in result.stdout.strip().split(" ") if word]

def _check_module(rctx, root, module):
    found = _pkg_config(rctx, root, ["--modversion", module])
    if found.return_code:
        fail("tensorferry needs %s, and pkg-config finds no %s.pc: %s." %
             (rctx.attr.package, module, _install_hint(rctx)))
    if root and not _query(rctx, root, ["--variable=pcfiledir", module])[0].startswith(root):
        fail("%s=%s has no %s.pc in any of %s: set it to the folder %s is installed in." %
             (rctx.attr.root_variable, root, module, ", ".join(_PKGCONFIG_DIRS), rctx.attr.package))
    if _pkg_config(rctx, root, ["--atleast-version=" + rctx.attr.min_version, module]).return_code:
        fail("tensorferry needs %s %s or newer, and pkg-config finds %s %s: %s." % (
            rctx.attr.package,
            rctx.attr.min_version,
            module,
            found.stdout.strip(),
            _install_hint(rctx),
        ))

def _library(rctx, root, name, modules, first_linkopts):
    """Returns the cc_library for some pkg-config modules."""
    defines, include_dirs, hdrs = [], [], []
    for flag in _query(rctx, root, ["--cflags"] + modules):
        if flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag.startswith("-I"):
            # Outside of the compiler's own folders: into the repository, so
            # that the sandbox has the headers and Bazel watches them.
            folder = "%s_include_%d" % (name, len(include_dirs))
            rctx.symlink(flag[2:], folder)
            include_dirs.append(folder)
            hdrs.append(folder + "/**")
    linkopts = list(first_linkopts)
    if modules:
        # Not --as-needed: a test links our code as shared libraries that name
        # no libraries of their own, and the gold linker, looking only at the
        # test's own object files, would drop what just those libraries use.
        libraries = _query(rctx, root, ["--libs"] + modules)
        rpaths = ["-Wl,-rpath," + flag[2:] for flag in libraries if flag.startswith("-L")]
        linkopts += rpaths + libraries
    return """
cc_library(
    name = "{name}",
    hdrs = glob({hdrs}),
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
)
""".format(name = name, hdrs = hdrs, defines = defines, includes = include_dirs, linkopts = linkopts)

def _program(rctx, root, name, file):
    path = rctx.path(root + "/bin/" + file) if root else rctx.which(file)
    if not path or not path.exists:
        fail("tensorferry needs the program %s%s: %s." %
             (file, " in %s/bin" % root if root else "", _install_hint(rctx)))
    rctx.symlink(path, name)
    return 'exports_files(["%s"])\n' % name

def _system_library_impl(rctx):
    root = rctx.os.environ.get(rctx.attr.root_variable)
    parts = [
        'load("@rules_cc//cc:defs.bzl", "cc_library")\n',
        'package(default_visibility = ["//visibility:public"])\n',
    ]
    for name, modules in rctx.attr.libraries.items():
        for module in modules:
            _check_module(rctx, root, module)
        parts.append(_library(rctx, root, name, modules, rctx.attr.first_linkopts.get(name, [])))
    for name, file in rctx.attr.programs.items():
        parts.append(_program(rctx, root, name, file))
    rctx.file("BUILD.bazel", "\n".join(parts))

system_library = repository_rule(
    implementation = _system_library_impl,
    doc = "An installed library, as a repository.",
    # Asked again whenever Bazel's server starts: the machine may have changed.
    local = True,
    configure = True,
    environ = ["PATH", "PKG_CONFIG_PATH"] + ["TENSORFERRY_%s_ROOT" % name for name in [
        "ABSL",
        "BENCHMARK",
        "GOOGLETEST",
        "GRPC",
        "JSON",
        "OPENSSL",
        "PROTOBUF",
        "XXHASH",
    ]],
    attrs = {
        "first_linkopts": attr.string_list_dict(
            doc = "Target -> linker flags before those of pkg-config, for what it does not know.",
        ),
        "libraries": attr.string_list_dict(doc = "cc_library -> its pkg-config modules."),
        "min_version": attr.string(mandatory = True),
        "package": attr.string(mandatory = True, doc = "What to install, for the error message."),
        "programs": attr.string_dict(doc = "Target -> name of an executable."),
        "root_variable": attr.string(mandatory = True),
    },
)
