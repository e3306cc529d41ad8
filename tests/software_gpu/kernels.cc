#include "tests/software_gpu/kernels.h"

#include <string.h>

#include <map>
#include <regex>
#include <utility>

namespace tensorferry::software_gpu {
namespace {

// Whether kernels of that device can use the memory.
bool Reaches(ApiCall& call, int device, const Use& use) {
  if (!use.allocation || !use.allocation->on_device()) return true;
  const int owner = use.allocation->device;
  return owner == device ||
         call.machine.peers_enabled.contains({device, owner});
}

bool AddUses(ApiCall& call, const Stream& stream, const std::string& name,
             const std::vector<Range>& ranges, bool write,
             std::vector<Use>& uses) {
  for (const Range& range : ranges) {
    const Use use = {call.machine.allocations.Find(range.begin), range.begin,
                     range.size, write};
    if (!call.machine.CheckRange(name, use)) return false;
    if (!Reaches(call, stream.device, use)) {
      call.machine.Report(Finding::Kind::kPeerAccess,
                          name + " on device " + std::to_string(stream.device));
      return false;
    }
    uses.push_back(use);
  }
  return true;
}

// The arguments of libtorch's elementwise kernels: how many elements, the
// functor that is applied to each, where the elements lie, the result first.
struct Elementwise {
  explicit Elementwise(void** arguments)
      : count(*static_cast<int*>(arguments[0])),
        functor(static_cast<const char*>(arguments[1])),
        data(static_cast<char**>(arguments[2])) {}
  size_t count;
  const char* functor;
  char** data;
};

// A member of a functor.
template <class T>
T Member(const Elementwise& kernel, size_t index) {
  T value;
  memcpy(&value, kernel.functor + index * sizeof(T), sizeof(T));
  return value;
}

std::optional<KernelLaunch> Fill(const Elementwise& kernel,
                                 const std::string& type) {
  static const std::map<std::string, size_t> kSizes = {
      {"bool", 1},
      {"unsigned char", 1},
      {"signed char", 1},
      {"short", 2},
      {"int", 4},
      {"long", 8},
      {"float", 4},
      {"double", 8},
      {"c10::Half", 2},
      {"c10::BFloat16", 2},
      {"c10::complex<float>", 8}};
  const auto size = kSizes.find(type);
  if (size == kSizes.end()) return std::nullopt;
  const std::string value(kernel.functor, size->second);
  char* const out = kernel.data[0];
  const size_t count = kernel.count;
  return KernelLaunch{.name = "fill",
                      .body =
                          [=] {
                            char* to = static_cast<char*>(HostView(out));
                            for (size_t i = 0; i < count; ++i) {
                              to += value.copy(to, value.size());
                            }
                          },
                      .reads = {},
                      .writes = {{out, count * value.size()}}};
}

// out = a + alpha * b, or a + alpha * scalar if b is null.
template <class T>
KernelLaunch AddOf(const Elementwise& kernel, const char* b, T scalar,
                   T alpha) {
  char* const out = kernel.data[0];
  const char* const a = kernel.data[1];
  const size_t count = kernel.count;
  KernelLaunch launch;
  launch.name = "add";
  launch.body = [=] {
    T* to = static_cast<T*>(HostView(out));
    const T* left = static_cast<const T*>(HostView(a));
    const T* right = b ? static_cast<const T*>(HostView(b)) : nullptr;
    for (size_t i = 0; i < count; ++i) {
      to[i] = left[i] + alpha * (right ? right[i] : scalar);
    }
  };
  launch.reads = {{a, count * sizeof(T)}};
  if (b) launch.reads.push_back({b, count * sizeof(T)});
  launch.writes = {{out, count * sizeof(T)}};
  return launch;
}

// Calls `visit` with a value of the type of that name.
template <class Visitor>
std::optional<KernelLaunch> WithType(const std::string& type, Visitor visit) {
  if (type == "float") return visit(float{});
  if (type == "double") return visit(double{});
  if (type == "int") return visit(int{});
  if (type == "long") return visit(long{});  // NOLINT: the compiler's name
  return std::nullopt;
}

std::optional<KernelLaunch> Add(const Elementwise& kernel,
                                const std::string& type) {
  return WithType(type, [&](auto zero) {
    using T = decltype(zero);
    return AddOf<T>(kernel, kernel.data[2], zero, Member<T>(kernel, 0));
  });
}

std::optional<KernelLaunch> AddScalar(const Elementwise& kernel,
                                      const std::string& type) {
  return WithType(type, [&](auto zero) {
    using T = decltype(zero);
    return AddOf<T>(kernel, nullptr, Member<T>(kernel, 0),
                    Member<T>(kernel, 1));
  });
}

}  // namespace

cudaError_t EnqueueKernel(ApiCall& call, Stream& stream, KernelLaunch launch) {
  std::vector<Use> uses;
  const bool legal =
      AddUses(call, stream, launch.name, launch.reads, /*write=*/false, uses) &&
      AddUses(call, stream, launch.name, launch.writes, /*write=*/true, uses);
  if (!legal) uses.clear();
  OperationPtr kernel = call.machine.Enqueue(stream, launch.name, uses);
  if (legal) {
    kernel->run = std::move(launch.body);
  } else {
    kernel->fault = cudaErrorIllegalAddress;
  }
  return cudaSuccess;
}

std::optional<KernelLaunch> FindKernel(const std::string& name,
                                       void** arguments) {
  static const std::regex kElementwise(
      R"(void at::native::\w*elementwise_kernel<\d+, at::native::(\w+)<(.*?)>)"
      R"(, std::array<char\*, (\d)ul>.*)");
  std::smatch match;
  if (!std::regex_match(name, match, kElementwise)) return std::nullopt;
  const Elementwise kernel(arguments);
  if (match[1] == "FillFunctor") return Fill(kernel, match[2]);
  if (match[1] == "CUDAFunctor_add") return Add(kernel, match[2]);
  if (match[1] == "CUDAFunctorOnSelf_add") return AddScalar(kernel, match[2]);
  return std::nullopt;
}

}  // namespace tensorferry::software_gpu
