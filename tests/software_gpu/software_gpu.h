#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_SOFTWARE_GPU_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_SOFTWARE_GPU_H_

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

// What a test may do to the software GPU, besides using it through CUDA's own
// interface. README.md says what is modelled. Any thread, but for what runs on
// the device: kernels and host functions call nothing of this but HostView.
namespace tensorferry::software_gpu {

// ---- When work runs ----

// Work runs when somebody waits for it or asks for it: a call that
// synchronises, a host function behind it, an event of several processes behind
// it, an event or stream that is queried. Then it runs with all that it depends
// on and nothing else, one piece at a time.
struct Schedule {
  enum class Order {
    kNewestFirst,  // of what was asked for, the newest work: adversarial
    kOldestFirst,
    kRandom,  // any that may run, also what nobody has asked for
  };
  Order order = Order::kNewestFirst;
  uint64_t seed = 1;  // of kRandom
  // How often a query says "not ready" of work before it asks for it.
  int unready_answers = 1;
  // How long after its last call a stream runs by itself; nullopt: never.
  std::optional<std::chrono::milliseconds> run_unasked_after;
  // How long host functions, and records of events of several processes, do
  // not ask for themselves.
  std::chrono::milliseconds host_function_delay{0};
};
void SetSchedule(const Schedule& schedule);

// From now on the stream runs nothing, until Release. A call that waits for it
// waits.
void Hold(cudaStream_t stream);
void Release(cudaStream_t stream);
// Pieces of work that have not run.
size_t Pending(cudaStream_t stream);

// From now on calls of this function do not begin, until ReleaseCalls():
// whoever makes one stands still there.
void HoldCalls(const std::string& function);
void ReleaseCalls();
// How many calls stand still now.
int HeldCalls();

// ---- Work ----

struct Range {
  const void* begin = nullptr;
  size_t size = 0;
};
// A kernel: `body` runs in stream order, on a thread of the software GPU.
cudaError_t Launch(cudaStream_t stream, std::string name,
                   std::function<void()> body, std::vector<Range> reads,
                   std::vector<Range> writes);
// The host's view of device memory, for bodies of kernels, and for tests that
// have waited. Null: `p` is not in live memory of the device.
void* HostView(const void* p);
// The same for a test that reads or writes pinned memory: a race is found if
// work that uses these bytes is not known to be over.
void HostReads(const void* p, size_t size);
void HostWrites(const void* p, size_t size);

// ---- Failures ----

// The nth call from now (1: the next) of this function returns `error` and does
// nothing.
void FailCall(const std::string& function, int nth, cudaError_t error);
// When the stream gets there its device fails for good: every call on it
// returns `error`.
void FailDevice(cudaStream_t stream, cudaError_t error);
// As if the process had started anew: no device has failed, no call will.
void ClearFailures();
void SetMemoryLimit(int device, size_t bytes);
void SetPeerAccess(bool possible);

// ---- What happened ----

struct Finding {
  enum class Kind {
    kRace,          // two uses of the same bytes that nothing orders
    kUseAfterFree,  // of device memory
    kOutOfBounds,
    kInvalidFree,    // of freed memory, or of no allocation
    kInvalidHandle,  // a stream or event that is destroyed, or of the wrong
                     // device
    kPeerAccess,     // a kernel uses another device's memory without leave
    kStub,           // a function that is not modelled
    kKernel,         // a kernel that is not modelled
    kHostFunction,   // one that calls CUDA
  };
  Kind kind;
  std::string text;
};
std::ostream& operator<<(std::ostream& out, const Finding& finding);
// Since the last call. A finding is also written to standard error at once.
std::vector<Finding> TakeFindings();

// What is allocated now: device and pinned memory, memory of other processes
// that is open, events of several processes. Compare two of them.
std::map<uint64_t, std::string> LiveResources();
size_t MemoryUsed(int device);
size_t PinnedMemoryUsed();
// How often each function was called that waits for the device, since the last
// call of this.
std::map<std::string, int> TakeSynchronisingCalls();
// The same for all functions.
std::map<std::string, int> TakeCalls();

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_SOFTWARE_GPU_H_
