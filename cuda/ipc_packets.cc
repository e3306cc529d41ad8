#include "cuda/ipc_packets.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "transport/nop_scanner.h"

namespace tensorferry {
namespace {

// tensorpipe grows a table up to it. As many as DeviceId has.
constexpr int64_t kMaxDevices = 128;

bool ReadText(NopScanner& in, std::string& out) {
  absl::string_view value;
  if (!in.String(value)) return false;
  out = std::string(value);
  return true;
}

bool ReadHandle(NopScanner& in, std::string& out) {
  return ReadText(in, out) && out.size() == IpcOutbox::kHandleBytes;
}

bool ReadOutbox(NopScanner& in, std::optional<IpcOutbox>& out) {
  if (in.Nil()) return true;
  IpcOutbox outbox;
  uint64_t events;
  if (!in.Structure(3) || !ReadText(in, outbox.process) ||
      !ReadHandle(in, outbox.memory) || !in.Array(events) ||
      events != IpcOutbox::kSlots) {
    return false;
  }
  outbox.events.resize(events);
  for (std::string& event : outbox.events) {
    if (!ReadHandle(in, event)) return false;
  }
  out = std::move(outbox);
  return true;
}

absl::Status Lie(int64_t sender, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("cuda_ipc: process ", sender, " sends a chunk ", what));
}

}  // namespace

absl::StatusOr<IpcDevice> ReadIpcDevice(absl::string_view descriptor) {
  NopScanner in(descriptor);
  IpcDevice device;
  if (!in.Structure(3) || !ReadText(in, device.boot_id) ||
      !in.Signed(device.process_id) || !ReadText(in, device.uuid) ||
      !in.at_end()) {
    return absl::DataLossError("cuda_ipc: a malformed device");
  }
  return device;
}

absl::StatusOr<IpcChunk> ReadIpcChunk(absl::string_view packet) {
  NopScanner in(packet);
  int64_t device;
  IpcChunk chunk;
  if (!in.Structure(3) || !in.Signed(device) || !in.Unsigned(chunk.slot) ||
      !ReadOutbox(in, chunk.outbox) || !in.at_end()) {
    return absl::DataLossError("cuda_ipc: a malformed chunk");
  }
  if (device < 0 || device >= kMaxDevices) {
    return absl::DataLossError(
        absl::StrCat("cuda_ipc: a chunk on device ", device));
  }
  chunk.device = static_cast<int>(device);
  return chunk;
}

absl::StatusOr<std::optional<IpcChunk>> IpcChunks::Check(
    absl::string_view packet, int64_t sender) {
  FERRY_ASSIGN_OR_RETURN(IpcChunk chunk, ReadIpcChunk(packet));
  if (chunk.slot >= IpcOutbox::kSlots) {
    return Lie(sender,
               absl::StrCat("in slot ", chunk.slot, " of ", IpcOutbox::kSlots));
  }
  if (!chunk.outbox) {
    if (devices_.contains(chunk.device)) return std::nullopt;
    return Lie(sender, absl::StrCat("on device ", chunk.device,
                                    ", of which it has not told"));
  }
  if (!devices_.insert(chunk.device).second) {
    return Lie(sender, absl::StrCat("on device ", chunk.device,
                                    ", of which it told before"));
  }
  // tensorpipe knows an outbox by the name of its process and takes one for
  // the other.
  if (!absl::EndsWith(chunk.outbox->process, absl::StrCat("_", sender))) {
    return absl::PermissionDeniedError(absl::StrCat(
        "cuda_ipc: process ", sender, " offers the memory of another process"));
  }
  return chunk;
}

}  // namespace tensorferry
