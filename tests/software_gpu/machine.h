#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_MACHINE_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_MACHINE_H_

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/software_gpu/memory.h"
#include "tests/software_gpu/scheduler.h"
#include "tests/software_gpu/shared_state.h"
#include "tests/software_gpu/software_gpu.h"
#include "tests/software_gpu/vector_clock.h"

namespace tensorferry::software_gpu {

struct Stream;

// A piece of work in a stream.
struct Operation {
  Stream* stream = nullptr;
  uint64_t epoch = 0;   // in its stream
  uint64_t number = 0;  // in all streams: the newest has the highest
  std::string name;
  // Of all that is ordered before it, and of itself.
  VectorClock clock;
  std::vector<AllocationPtr> memory;  // that it uses

  // What has to happen first, besides what is ahead of it in its stream: work
  // of another stream, or of another process (nullopt: not yet).
  std::shared_ptr<Operation> after;
  std::function<std::optional<cudaError_t>()> remote;

  std::function<void()> run;  // without the machine's mutex
  // A host function, which is told what went wrong before it.
  std::function<void(cudaError_t)> host_function;
  std::function<void()> finish;      // under the machine's mutex
  cudaError_t fault = cudaSuccess;   // that the device gets for good
  cudaError_t result = cudaSuccess;  // once it is done
  bool done = false;
  int unready_answers = 0;
  std::chrono::steady_clock::time_point finished;
};

struct Stream {
  StreamId id = 0;
  int device = 0;
  bool blocking = false;  // waits for the default stream, which waits for it
  int priority = 0;
  bool held = false;
  bool destroyed = false;
  std::deque<OperationPtr> queue;  // what has not run
  OperationPtr last;
  VectorClock clock;
  uint64_t epoch = 0;
  // Of work that failed and that nobody has been told of yet. All that comes
  // behind it fails too.
  cudaError_t error = cudaSuccess;
  std::chrono::steady_clock::time_point last_call;
};

struct Event {
  int device = 0;
  unsigned flags = 0;
  bool destroyed = false;
  OperationPtr last;  // the record of this process
  // Of several processes:
  std::shared_ptr<SharedEvent> shared;
  size_t shared_offset = 0;
  bool opened = false;       // here, of another process
  uint64_t last_number = 0;  // of `last`, in `shared`
};

struct Device {
  int physical = 0;  // its number without CUDA_VISIBLE_DEVICES
  size_t limit = 0;
  size_t used = 0;
  cudaError_t fault = cudaSuccess;
  Stream* default_stream = nullptr;
  std::unique_ptr<DeviceMemory> memory;
};

// One use of memory by work that is enqueued. Without an allocation it is
// ordinary memory of the host, and not followed.
struct Use {
  AllocationPtr allocation;
  const void* begin = nullptr;
  size_t size = 0;
  bool write = false;
};

// The state behind the CUDA API of this process. Everything in it is guarded by
// `mutex`; the functions expect it held.
class Machine {
 public:
  // Made at the first call, and never destroyed: threads outlive main.
  static Machine& Get();
  static bool IsFork();  // CUDA does not work in a process that was forked off

  Stream* NewStream(int device, bool blocking, int priority);
  Event* NewEvent(int device, unsigned flags);
  // Null, and a finding: there is none.
  Stream* Find(cudaStream_t handle, int current_device);
  Event* Find(cudaEvent_t handle);

  // Appends work to a stream; looks for races.
  OperationPtr Enqueue(Stream& stream, const std::string& name,
                       const std::vector<Use>& uses = {});
  // What happens later on any stream comes after this.
  void HostLearns(const VectorClock& clock);
  // A race if the host uses memory that work may be using.
  void HostUses(const void* p, size_t size, bool write);
  // A finding, if these bytes are not all within a live allocation.
  bool CheckRange(const std::string& name, const Use& use);
  void Report(Finding::Kind kind, std::string text);
  // `log` of memory that another process may use.
  std::shared_ptr<SharedLog> NewSharedLog(size_t& offset);
  std::shared_ptr<SharedEvent> NewSharedEvent(size_t& offset);

  std::mutex mutex;
  std::vector<Device> devices;  // the visible ones
  int physical_devices = 0;
  std::vector<std::unique_ptr<Stream>> streams;  // destroyed ones too
  std::vector<std::unique_ptr<Event>> events;
  AllocationMap allocations;
  size_t pinned = 0;
  MemoryFile shared{"software_gpu_shared", size_t{4} << 30};
  Scheduler scheduler{*this};
  VectorClock host;
  std::vector<Finding> findings;
  std::map<std::string, int> calls;
  std::map<std::string, int> synchronising_calls;
  bool peer_access = true;
  std::set<std::pair<int, int>> peers_enabled;

  struct Failure {
    std::string function;
    int in = 0;  // calls
    cudaError_t error = cudaSuccess;
  };
  std::vector<Failure> failures;

  // Functions whose calls do not begin.
  std::set<std::string> held_functions;
  int held_calls = 0;
  std::condition_variable calls_released;

 private:
  Machine();
  void OrderWithDefaultStream(Stream& stream);
  OperationPtr Append(Stream& stream, const std::string& name);
  void Record(const Use& use, const Operation& operation);

  // Handles that are real, destroyed or not.
  std::set<const void*> stream_handles_;
  std::set<const void*> event_handles_;
  uint64_t next_number_ = 1;
};

// The UUID of the nth device of this host, whatever is visible.
cudaUUID_t UuidOf(int physical_device);
// "GPU-53465754-..."
std::string UuidText(int physical_device);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_MACHINE_H_
