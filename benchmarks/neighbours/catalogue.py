"""Who takes part in the comparison, and on what work."""

import dataclasses

KI, MI, GI = 2**10, 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Contestant:
  name: str
  title: str
  # How contestant.cc or contestant.py calls it: "cpp:NAME", "python:MODULE",
  # "plugin:SOURCE".
  runs: str
  lacks: str  # what it does not do that tensorferry does
  needs: tuple = ()  # files of requirements/ that it is installed from
  fresh: bool = True  # receives into memory that is allocated for the message
  own: bool = True  # receives into the caller's, touched before
  only_many: bool = False  # only where messages have many tensors
  only_large: bool = False  # only from 1 MiB on
  beside: str = "ferry"  # whose time the ratio is to
  kind: str = "neighbour"  # or "ferry", "limit"
  environment: dict = dataclasses.field(default_factory=dict)


_NO_MANIFEST = "digest, names, dtypes, shapes; the receiver knows the sizes"
_UCX_LACKS = (_NO_MANIFEST + "; acknowledgement (one byte by hand); sleeping "
              "while it waits (both sides spin)")
_ZEROMQ_LACKS = ("digest, names, dtypes, shapes, acknowledgement (one message by "
                 "hand)")
_GRPC_LACKS = _NO_MANIFEST + "; acknowledgement (one message by hand)"
_MULTIPROCESSING_LACKS = ("digest, names, the caller's tensors, acknowledgement "
                          "(one message by hand)")
_PYTHON = ("base", "torch")

CONTESTANTS = [
    Contestant("ferry", "tensorferry", "cpp:ferry", "", kind="ferry"),
    Contestant("ferry_no_digest", "tensorferry, digest off",
               "cpp:ferry_no_digest", "digest", kind="ferry"),
    Contestant("ferry_tcp", "tensorferry over TCP", "cpp:ferry_tcp", "",
               kind="ferry", beside="ferry_tcp"),
    Contestant("ferry_tcp_no_digest", "tensorferry over TCP, digest off",
               "cpp:ferry_tcp_no_digest", "digest", kind="ferry",
               beside="ferry_tcp"),
    Contestant("bare", "bare tensorpipe, uv + cma", "cpp:bare", _NO_MANIFEST),
    Contestant("bare_packed", "bare tensorpipe, packed by the sender",
               "cpp:bare_packed", _NO_MANIFEST, only_many=True),
    Contestant("bare_tcp", "bare tensorpipe, uv + basic (TCP)", "cpp:bare_tcp",
               _NO_MANIFEST, beside="ferry_tcp"),
    Contestant("rpc_cpp", "PyTorch RPC, C++ (TensorPipeAgent)", "cpp:rpc_cpp",
               "digest, names, the caller's tensors", own=False),
    Contestant("rpc_python", "PyTorch RPC, Python", "python:rpc",
               "digest, names, the caller's tensors", _PYTHON, own=False),
    Contestant("gloo", "torch.distributed, gloo (TCP), Python", "python:gloo",
               _NO_MANIFEST + "; acknowledgement (one byte by hand)", _PYTHON,
               beside="ferry_tcp"),
    Contestant("multiprocessing", "torch.multiprocessing, copied twice",
               "python:multiprocessing:copy", _MULTIPROCESSING_LACKS, _PYTHON,
               own=False),
    Contestant("multiprocessing_shared",
               "torch.multiprocessing, in shared memory before",
               "python:multiprocessing:shared",
               _MULTIPROCESSING_LACKS +
               "; nothing is copied, both sides see later writes",
               _PYTHON, own=False),
    Contestant("ucx", "UCX tagged iov, posix + cma", "plugin:ucx_plugin.cc",
               _UCX_LACKS, ("ucx",),
               environment={"UCX_TLS": "posix,cma,self"}),
    Contestant("ucx_tcp", "UCX tagged iov, TCP", "plugin:ucx_plugin.cc",
               _UCX_LACKS, ("ucx",), beside="ferry_tcp",
               environment={"UCX_TLS": "tcp,self"}),
    Contestant("nixl", "NIXL over UCX, Python", "python:nixl",
               _NO_MANIFEST + "; memory that was not registered before; "
               "sleeping while it waits", _PYTHON + ("nixl",), fresh=False),
    Contestant("mooncake", "Mooncake Transfer Engine over TCP, Python",
               "python:mooncake",
               _NO_MANIFEST + "; memory that was not registered before; "
               "telling the receiver", ("base", "mooncake"), fresh=False,
               beside="ferry_tcp"),
    Contestant("zeromq", "ZeroMQ ipc, Python", "python:zeromq:ipc",
               _ZEROMQ_LACKS, ("base", "pyzmq")),
    Contestant("zeromq_tcp", "ZeroMQ TCP, Python", "python:zeromq:tcp",
               _ZEROMQ_LACKS, ("base", "pyzmq"), beside="ferry_tcp"),
    Contestant("grpc", "gRPC C++ streaming, unix socket", "cpp:grpc",
               _GRPC_LACKS),
    Contestant("grpc_tcp", "gRPC C++ streaming, TCP", "cpp:grpc_tcp",
               _GRPC_LACKS, beside="ferry_tcp"),
    Contestant("flight", "Arrow Flight DoPut, unix socket, Python",
               "python:flight", "digest, the caller's tensors, "
               "acknowledgement (one message by hand)", ("base", "pyarrow"),
               own=False),
    Contestant("memcpy", "limit: memcpy, 1 thread", "cpp:memcpy",
               "everything else", fresh=False, kind="limit"),
    Contestant("memcpy_2", "limit: memcpy, 2 threads", "cpp:memcpy_2",
               "everything else", fresh=False, only_large=True, kind="limit"),
    Contestant("readv", "limit: process_vm_readv, 1 thread", "cpp:readv",
               "everything else", kind="limit"),
    Contestant("tcp", "limit: loopback TCP, 1 connection", "cpp:tcp",
               "everything else", kind="limit", beside="ferry_tcp"),
]


@dataclasses.dataclass(frozen=True)
class Workload:
  name: str
  title: str
  sizes: list  # bytes of each tensor
  messages: int  # timed, in a turn

  @property
  def nbytes(self):
    return sum(self.sizes)


def _language_model():
  """146 tensors, 495 MB of float32: a decoder of 12 layers, 768 wide."""
  wide = 768
  layer = [wide, wide, 3 * wide * wide, 3 * wide, wide * wide, wide, wide, wide,
           4 * wide * wide, 4 * wide, 4 * wide * wide, wide]
  words = [50257 * wide] + 12 * layer + [wide]
  return [4 * count for count in words]


WORKLOADS = [
    Workload("1KiB", "1 KiB", [KI], 200),
    Workload("64KiB", "64 KiB", [64 * KI], 200),
    Workload("1MiB", "1 MiB", [MI], 40),
    Workload("16MiB", "16 MiB", [16 * MI], 8),
    Workload("256MiB", "256 MiB", [256 * MI], 2),
    Workload("1GiB", "1 GiB", [GI], 1),
    Workload("1000x4KiB", "1,000 x 4 KiB", 1000 * [4 * KI], 8),
    Workload("10000x256B", "10,000 x 256 B", 10000 * [256], 4),
    Workload("model", "the model: 146 tensors, 495 MB", _language_model(), 1),
]

SMOKE_WORKLOADS = [
    Workload("1KiB", "1 KiB", [KI], 2),
    Workload("1MiB", "1 MiB", [MI], 2),
    Workload("100x256B", "100 x 256 B", 100 * [256], 2),
]


def takes_part(contestant, workload):
  many = len(workload.sizes) > 1
  return ((many or not contestant.only_many) and
          (workload.nbytes >= MI or not contestant.only_large))


def memories(contestant):
  return [memory for memory in ("fresh", "own") if getattr(contestant, memory)]
