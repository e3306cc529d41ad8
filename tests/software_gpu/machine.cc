#include "tests/software_gpu/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <atomic>
#include <mutex>
#include <sstream>
#include <utility>

namespace tensorferry::software_gpu {
namespace {

constexpr int kDevices = 2;
constexpr size_t kMemory = size_t{4} << 30;

std::atomic<pid_t> owner{0};  // the process whose Machine this is

std::string Environment(const char* name, const std::string& otherwise) {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

// The devices that CUDA_VISIBLE_DEVICES lists, by number or by the beginning of
// a UUID, up to the first that does not exist.
std::vector<int> VisibleDevices(int count) {
  std::vector<int> devices;
  const char* list = getenv("CUDA_VISIBLE_DEVICES");
  if (!list) {
    for (int device = 0; device < count; ++device) devices.push_back(device);
    return devices;
  }
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ',');) {
    int found = -1;
    for (int device = 0; device < count; ++device) {
      const bool by_uuid = name.size() > 4 &&
                           UuidText(device).compare(0, name.size(), name) == 0;
      if (by_uuid || name == std::to_string(device)) found = device;
    }
    if (found < 0) break;
    devices.push_back(found);
  }
  return devices;
}

const char* NameOf(Finding::Kind kind) {
  switch (kind) {
    case Finding::Kind::kRace:
      return "race";
    case Finding::Kind::kUseAfterFree:
      return "use after free";
    case Finding::Kind::kOutOfBounds:
      return "out of bounds";
    case Finding::Kind::kInvalidFree:
      return "invalid free";
    case Finding::Kind::kInvalidHandle:
      return "invalid handle";
    case Finding::Kind::kPeerAccess:
      return "no access to the memory of a peer";
    case Finding::Kind::kStub:
      return "stub called";
    case Finding::Kind::kKernel:
      return "kernel not modelled";
    case Finding::Kind::kHostFunction:
      return "CUDA called in a host function";
  }
  return "?";
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Finding& finding) {
  return out << NameOf(finding.kind) << ": " << finding.text;
}

cudaUUID_t UuidOf(int physical_device) {
  // Processes that see the same host see the same devices. A test that plays
  // two hosts gives them names.
  const std::string text =
      "softgpu" + Environment("SOFTWARE_GPU_HOST", "") + "........";
  cudaUUID_t uuid;
  memcpy(uuid.bytes, text.data(), sizeof(uuid.bytes));
  uuid.bytes[sizeof(uuid.bytes) - 1] = static_cast<char>(physical_device);
  return uuid;
}

std::string UuidText(int physical_device) {
  const cudaUUID_t uuid = UuidOf(physical_device);
  std::string text = Environment("SOFTWARE_GPU_UUID_PREFIX", "GPU");
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    snprintf(digits, sizeof(digits), "%02x", uuid.bytes[i] & 0xff);
    text += digits;
  }
  return text;
}

Machine& Machine::Get() {
  static Machine* machine = new Machine;
  return *machine;
}

bool Machine::IsFork() { return owner != 0 && owner != getpid(); }

Machine::Machine() {
  owner = getpid();
  physical_devices = atoi(
      Environment("SOFTWARE_GPU_DEVICES", std::to_string(kDevices)).c_str());
  for (int physical : VisibleDevices(physical_devices)) {
    Device device;
    device.physical = physical;
    device.limit = kMemory;
    device.memory = std::make_unique<DeviceMemory>();
    devices.push_back(std::move(device));
    const int index = static_cast<int>(devices.size()) - 1;
    devices.back().default_stream = NewStream(index, /*blocking=*/true, 0);
  }
}

Stream* Machine::NewStream(int device, bool blocking, int priority) {
  auto stream = std::make_unique<Stream>();
  stream->id = uint64_t(getpid()) << 32 | streams.size();
  stream->device = device;
  stream->blocking = blocking;
  stream->priority = priority;
  stream_handles_.insert(stream.get());
  streams.push_back(std::move(stream));
  return streams.back().get();
}

Stream* Machine::Find(cudaStream_t handle, int current_device) {
  if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread) {
    return devices[current_device].default_stream;
  }
  auto* stream = reinterpret_cast<Stream*>(handle);
  if (stream_handles_.contains(handle) && !stream->destroyed) return stream;
  Report(Finding::Kind::kInvalidHandle, "no such stream");
  return nullptr;
}

Event* Machine::Find(cudaEvent_t handle) {
  auto* event = reinterpret_cast<Event*>(handle);
  if (event_handles_.contains(handle) && !event->destroyed) return event;
  Report(Finding::Kind::kInvalidHandle, "no such event");
  return nullptr;
}

Event* Machine::NewEvent(int device, unsigned flags) {
  events.push_back(std::make_unique<Event>());
  Event* event = events.back().get();
  event->device = device;
  event->flags = flags;
  event_handles_.insert(event);
  return event;
}

OperationPtr Machine::Append(Stream& stream, const std::string& name) {
  auto operation = std::make_shared<Operation>();
  operation->stream = &stream;
  operation->name = name;
  operation->number = next_number_++;
  operation->epoch = ++stream.epoch;
  stream.clock.Join(host);
  stream.clock.Advance(stream.id, operation->epoch);
  operation->clock = stream.clock;
  stream.queue.push_back(operation);
  stream.last = operation;
  stream.last_call = std::chrono::steady_clock::now();
  scheduler.Wake();
  return operation;
}

void Machine::OrderWithDefaultStream(Stream& stream) {
  const Stream* const default_stream = devices[stream.device].default_stream;
  if (!stream.blocking) return;
  for (const auto& other : streams) {
    const bool ordered =
        other.get() != &stream && other->blocking &&
        other->device == stream.device &&
        (&stream == default_stream || other.get() == default_stream);
    if (!ordered || !other->last) continue;
    stream.clock.Join(other->last->clock);
    if (!other->last->done) {
      Append(stream, "wait for the default stream")->after = other->last;
    }
  }
}

OperationPtr Machine::Enqueue(Stream& stream, const std::string& name,
                              const std::vector<Use>& uses) {
  OrderWithDefaultStream(stream);
  for (const Use& use : uses) {
    if (!use.allocation || !use.allocation->log) continue;
    std::lock_guard<SharedMutex> lock(use.allocation->log->mutex);
    stream.clock.Join(use.allocation->log->hosts.Get());
  }
  OperationPtr operation = Append(stream, name);
  for (const Use& use : uses) {
    if (!use.allocation || use.size == 0) continue;
    operation->memory.push_back(use.allocation);
    Record(use, *operation);
  }
  return operation;
}

void Machine::Record(const Use& use, const Operation& operation) {
  Allocation& allocation = *use.allocation;
  Access access{.begin = allocation.OffsetOf(use.begin),
                .end = allocation.OffsetOf(use.begin) + use.size,
                .stream = operation.stream->id,
                .epoch = operation.epoch,
                .write = use.write};
  operation.name.copy(access.name, sizeof(access.name) - 1);
  std::unique_lock<SharedMutex> lock;
  if (allocation.log) {
    lock = std::unique_lock<SharedMutex>(allocation.log->mutex);
    allocation.accesses = Load(*allocation.log);
  }
  for (const Access& earlier :
       Conflicts(allocation.accesses, access, operation.clock)) {
    std::ostringstream text;
    text << ToString(access) << " is not ordered after the "
         << ToString(earlier) << "; allocation " << allocation.id << " of "
         << allocation.size << " bytes, device " << allocation.device;
    Report(Finding::Kind::kRace, text.str());
  }
  Add(access, operation.clock, allocation.accesses);
  if (allocation.log) Store(allocation.accesses, *allocation.log);
}

void Machine::HostLearns(const VectorClock& clock) {
  host.Join(clock);
  for (const AllocationPtr& allocation : allocations.Live()) {
    if (!allocation->log) continue;
    std::lock_guard<SharedMutex> lock(allocation->log->mutex);
    allocation->log->hosts.Join(host);
  }
}

void Machine::HostUses(const void* p, size_t size, bool write) {
  const AllocationPtr allocation = allocations.Find(p);
  if (!allocation) return;
  Access access{.begin = allocation->OffsetOf(p),
                .end = allocation->OffsetOf(p) + size,
                .write = write};
  for (const Access& earlier : Conflicts(allocation->accesses, access, host)) {
    Report(Finding::Kind::kRace,
           std::string("the host ") + (write ? "writes" : "reads") +
               " what may still be in use: " + ToString(earlier));
  }
}

bool Machine::CheckRange(const std::string& name, const Use& use) {
  if (!use.allocation) return true;
  const Allocation& allocation = *use.allocation;
  const bool freed =
      allocation.freed || (allocation.log && allocation.log->freed);
  if (!freed && allocation.Contains(use.begin, use.size)) return true;
  std::ostringstream text;
  text << name << " of " << use.size << " bytes at offset "
       << allocation.OffsetOf(use.begin) << " of allocation " << allocation.id
       << ", which " << (freed ? "had " : "has ") << allocation.size
       << " bytes, device " << allocation.device;
  Report(freed ? Finding::Kind::kUseAfterFree : Finding::Kind::kOutOfBounds,
         text.str());
  return false;
}

void Machine::Report(Finding::Kind kind, std::string text) {
  findings.push_back({kind, std::move(text)});
  std::ostringstream line;
  line << "software GPU, process " << getpid() << ": " << findings.back()
       << "\n";
  fputs(line.str().c_str(), stderr);
}

std::shared_ptr<SharedLog> Machine::NewSharedLog(size_t& offset) {
  offset = shared.Allocate(sizeof(SharedLog));
  if (offset == shared.size()) return nullptr;
  auto* log = reinterpret_cast<SharedLog*>(shared.at(offset));
  log->mutex.Initialize();
  return {log, [](SharedLog*) {}};
}

std::shared_ptr<SharedEvent> Machine::NewSharedEvent(size_t& offset) {
  offset = shared.Allocate(sizeof(SharedEvent));
  if (offset == shared.size()) return nullptr;
  auto* event = reinterpret_cast<SharedEvent*>(shared.at(offset));
  event->mutex.Initialize();
  return {event, [](SharedEvent*) {}};
}

}  // namespace tensorferry::software_gpu
