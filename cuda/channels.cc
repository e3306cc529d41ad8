#include "cuda/channels.h"

#include <tensorpipe/common/cuda_buffer.h>
#include <tensorpipe/tensorpipe.h>
#include <tensorpipe/tensorpipe_cuda.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/device_id.h"
#include "base/exception_status.h"
#include "base/peer_process.h"
#include "base/status_macros.h"
#include "cuda/devices.h"
#include "cuda/ipc_outbox.h"
#include "cuda/ipc_packets.h"
#include "cuda/shared_channel.h"
#include "transport/hub.h"
#include "transport/packets.h"

namespace tensorferry {
namespace {

using Connection = tensorpipe::transport::Connection;
using Context = std::shared_ptr<tensorpipe::channel::Context>;

absl::StatusOr<pid_t> ProcessBehind(const Connection& connection,
                                    absl::string_view channel) {
  const std::optional<PeerProcess> peer = PeerProcessOf(connection);
  if (peer && peer->pid != 0) return peer->pid;
  return absl::PermissionDeniedError(
      absl::StrCat(channel,
                   ": the kernel does not say which process the peer "
                   "is; it works over unix sockets only"));
}

// cuda_xth: packets are addresses of this process.

absl::Status CheckXthPacket(const Connection& connection, int /*device*/,
                            absl::string_view /*packet*/) {
  FERRY_ASSIGN_OR_RETURN(const pid_t peer,
                         ProcessBehind(connection, "cuda_xth"));
  if (peer == getpid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      "cuda_xth: the peer is process ", peer, ", this is ", getpid()));
}

// cuda_ipc: packets say where in the peer's memory a chunk is.

ChannelChecks::Packets MakeIpcCheck(std::shared_ptr<OutboxesSeen> seen) {
  auto chunks = std::make_shared<IpcChunks>();
  return [seen, chunks](const Connection& connection, int device,
                        absl::string_view packet) -> absl::Status {
    FERRY_ASSIGN_OR_RETURN(const pid_t peer,
                           ProcessBehind(connection, "cuda_ipc"));
    FERRY_ASSIGN_OR_RETURN(const std::optional<IpcChunk> first,
                           chunks->Check(packet, peer));
    if (!first) return absl::OkStatus();
    return seen->Check(peer, *first, device);
  };
}

ChannelChecks IpcChecks() {
  std::vector<std::string> uuids;
  for (const DeviceInfo& device : CudaDevices()) uuids.push_back(device.uuid);
  ChannelChecks checks;
  // tensorpipe asks NVML, which knows GPUs that this process may not use.
  checks.readable = [uuids](const std::string& descriptor) {
    const absl::StatusOr<IpcDevice> device = ReadIpcDevice(descriptor);
    return device.ok() && std::find(uuids.begin(), uuids.end(),
                                    "GPU-" + device->uuid) != uuids.end();
  };
  checks.packets = [seen = std::make_shared<OutboxesSeen>()] {
    return MakeIpcCheck(seen);
  };
  return checks;
}

ChannelChecks XthChecks() {
  ChannelChecks checks;
  checks.packets = [] { return CheckXthPacket; };
  return checks;
}

ChannelChecks StagedChecks() {
  ChannelChecks checks;
  checks.readable = [](const std::string& descriptor) {
    return CheckWellFormed(descriptor).ok();
  };
  return checks;
}

// tensorpipe loads the driver when it is first asked for the device of memory.
// Should any device have failed by then it throws, which costs the session its
// lane, whatever device the memory is on. So it is asked before there are
// sessions: for no memory, at which it throws too, but has loaded the driver.
void LoadDriver() {
  CatchExceptions("loading the driver", [] {
    tensorpipe::CudaBuffer().getDevice();
  }).IgnoreError();
}

// One of tensorpipe's channels in this process. Lives for ever.
class ProcessChannel {
 public:
  ProcessChannel(std::string name, Context (*create)(),
                 ChannelChecks (*make_checks)())
      : name_(std::move(name)), create_(create), make_checks_(make_checks) {}

  // Null: it cannot be used.
  Context MakeSession(const ChannelEnvironment& environment) {
    absl::StatusOr<SharedChannel*> shared = Get();
    if (!shared.ok()) return nullptr;
    return (*shared)->MakeSession({.loop = environment.loop,
                                   .on_copy = environment.on_copy,
                                   .on_wedged = environment.on_wedged});
  }

  void CloseForTesting() {
    absl::MutexLock lock(&mu_);
    if (current_ == nullptr || !current_->lost().ok()) return;
    current_->context().join();
    delete std::exchange(current_, nullptr);
  }

  std::string Unusable() {
    const absl::Status usable = CudaUsable();
    return std::string((usable.ok() ? Get().status() : usable).message());
  }

 private:
  // Each that was lost keeps its staging memory.
  static constexpr int kMostLost = 4;

  absl::StatusOr<SharedChannel*> Get() {
    absl::MutexLock lock(&mu_);
    if (current_ != nullptr) {
      const absl::Status lost = current_->lost();
      if (lost.ok()) return current_;
      if (losses_ == kMostLost) return lost;
      ++losses_;
      current_ = nullptr;
    }
    FERRY_RETURN_IF_ERROR(CudaUsable());
    LoadDriver();
    Context context;
    FERRY_RETURN_IF_ERROR(CatchExceptions(absl::StrCat(name_, ": tensorpipe"),
                                          [&] { context = create_(); }));
    if (context == nullptr || !context->isViable()) {
      return absl::FailedPreconditionError(
          "tensorpipe finds that it does not work on this machine");
    }
    current_ = new SharedChannel(name_, std::move(context), make_checks_());
    return current_;
  }

  const std::string name_;
  Context (*const create_)();
  ChannelChecks (*const make_checks_)();
  absl::Mutex mu_;
  SharedChannel* current_ ABSL_GUARDED_BY(mu_) = nullptr;
  int losses_ ABSL_GUARDED_BY(mu_) = 0;
};

std::vector<ProcessChannel*>& ProcessChannels() {
  static auto& channels = *new std::vector<ProcessChannel*>;
  return channels;
}

// The rest of the entry is the caller's.
ChannelBackend BackendOf(const std::string& name, Context (*create)(),
                         ChannelChecks (*make_checks)()) {
  auto* const channel = new ProcessChannel(name, create, make_checks);
  ProcessChannels().push_back(channel);
  ChannelBackend backend;
  backend.name = name;
  backend.carries = {{"cuda", "cuda"}};
  backend.make = [channel](const ChannelEnvironment& environment) {
    return channel->MakeSession(environment);
  };
  backend.unusable = [channel] { return channel->Unusable(); };
  return backend;
}

ChannelBackend Xth() {
  ChannelBackend backend = BackendOf(
      "cuda_xth", [] { return tensorpipe::channel::cuda_xth::create(); },
      XthChecks);
  backend.priority = 400;
  backend.reach = ChannelBackend::Reach::kSameProcess;
  backend.only_on_unix = true;
  return backend;
}

// Empty, or which of this process's devices is an instance (MIG) of a GPU:
// tensorpipe knows devices by the UUIDs of whole GPUs.
std::string InstanceOfAGpu() {
  for (const DeviceInfo& device : CudaDevices()) {
    if (!absl::StartsWith(device.uuid, "MIG-")) continue;
    return absl::StrCat(ToString(device.id), " is a MIG instance (",
                        device.uuid, "), which cuda_ipc does not know");
  }
  return "";
}

ChannelBackend Ipc() {
  ChannelBackend backend = BackendOf(
      "cuda_ipc", [] { return tensorpipe::channel::cuda_ipc::create(); },
      IpcChecks);
  backend.priority = 300;
  backend.reach = ChannelBackend::Reach::kSameHostAndUser;
  backend.only_on_unix = true;
  backend.opens_device = true;
  backend.unusable = [otherwise = std::move(backend.unusable)] {
    const std::string instance = InstanceOfAGpu();
    return instance.empty() ? otherwise() : instance;
  };
  return backend;
}

ChannelBackend Gdr() {
  ChannelBackend backend = BackendOf(
      "cuda_gdr", [] { return tensorpipe::channel::cuda_gdr::create(); },
      StagedChecks);
  backend.priority = 200;
  // It indexes by what a peer says, and throws on that thread of its own.
  backend.only_if_named = true;
  // Its context polls on a thread of its own: not made in order to ask.
  backend.unusable = []() -> std::string {
    const absl::Status usable = CudaUsable();
    if (!usable.ok()) return std::string(usable.message());
    std::error_code error;
    const std::filesystem::directory_iterator devices("/sys/class/infiniband",
                                                      error);
    return error || devices == end(devices) ? "there is no InfiniBand device"
                                            : "";
  };
  return backend;
}

ChannelBackend Basic() {
  ChannelBackend backend = BackendOf(
      "cuda_basic",
      [] {
        return tensorpipe::channel::cuda_basic::create(
            tensorpipe::channel::basic::create());
      },
      StagedChecks);
  backend.priority = 0;
  backend.carries = {{"cuda", "cuda"}, {"cuda", "cpu"}, {"cpu", "cuda"}};
  return backend;
}

const BackendRegistrar xth(CudaChannels()[0]);
const BackendRegistrar ipc(CudaChannels()[1]);
const BackendRegistrar gdr(CudaChannels()[2]);
const BackendRegistrar basic(CudaChannels()[3]);

}  // namespace

std::vector<ChannelBackend> CudaChannels() {
  static const auto& channels =
      *new std::vector<ChannelBackend>{Xth(), Ipc(), Gdr(), Basic()};
  return channels;
}

void CloseCudaChannelsForTesting() {
  for (ProcessChannel* channel : ProcessChannels()) channel->CloseForTesting();
}

}  // namespace tensorferry
