#include "tests/software_gpu/kernels.h"

#include <string.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <string>

#include "tests/software_gpu/software_gpu.h"

namespace tensorferry::software_gpu {
namespace {

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

// How large an element of that type is; 0: unknown.
size_t SizeOf(const std::string& type) {
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
      {"c10::complex<float>", 8},
      {"c10::complex<double>", 16}};
  const auto size = kSizes.find(type);
  return size == kSizes.end() ? 0 : size->second;
}

std::optional<KernelLaunch> Fill(const Elementwise& kernel,
                                 const std::string& type) {
  const std::string value(kernel.functor, SizeOf(type));
  if (value.empty()) return std::nullopt;
  char* const out = kernel.data[0];
  const size_t count = kernel.count;
  KernelLaunch launch;
  launch.name = "fill";
  launch.body = [=] {
    char* to = static_cast<char*>(HostView(out));
    for (size_t i = 0; i < count; ++i) to += value.copy(to, value.size());
  };
  launch.writes = {{out, count * value.size()}};
  return launch;
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

// The functor of the kernel that copies what is not contiguous: libtorch's
// OffsetCalculator for two operands, then where these lie, the target first.
struct StridedCopy {
  static constexpr int kMaxDimensions = 25;
  struct Divider {
    uint32_t size;
    uint32_t magic[2];  // for fast division
  };

  // Where the nth element lies, in bytes from the operand's first.
  size_t OffsetOf(uint32_t n, int operand) const {
    size_t offset = 0;
    for (int i = 0; i < dimensions; ++i) {
      offset += size_t{n % sizes[i].size} * strides[i][operand];
      n /= sizes[i].size;
    }
    return offset;
  }
  // From the first byte of the operand to its last.
  Range SpanOf(int operand, size_t element_size) const {
    size_t last = 0;
    for (int i = 0; i < dimensions; ++i) {
      last += size_t{sizes[i].size - 1} * strides[i][operand];
    }
    return {data[operand], last + element_size};
  }

  int32_t dimensions;
  Divider sizes[kMaxDimensions];
  uint32_t strides[kMaxDimensions][2];
  char* data[2];
};

std::optional<KernelLaunch> Copy(void** arguments, const std::string& type) {
  const int count = *static_cast<int*>(arguments[0]);
  const StridedCopy copy = *static_cast<StridedCopy*>(arguments[1]);
  const size_t size = SizeOf(type);
  if (size == 0) return std::nullopt;
  KernelLaunch launch;
  launch.name = "copy";
  launch.body = [=] {
    char* const to = static_cast<char*>(HostView(copy.data[0]));
    const char* const from = static_cast<char*>(HostView(copy.data[1]));
    for (int i = 0; i < count; ++i) {
      memcpy(to + copy.OffsetOf(i, 0), from + copy.OffsetOf(i, 1), size);
    }
  };
  launch.reads = {copy.SpanOf(1, size)};
  launch.writes = {copy.SpanOf(0, size)};
  return launch;
}

}  // namespace

std::optional<KernelLaunch> FindKernel(const std::string& name,
                                       void** arguments) {
  static const std::regex kCopy(
      R"(^void at::native::elementwise_kernel<\d+, \d+, )"
      R"(at::native::gpu_kernel_impl_nocast<)"
      R"(at::native::direct_copy_kernel_cuda.*?\{lambda\(([\w:<> ]+)\)#1\}>)");
  std::smatch match;
  if (std::regex_search(name, match, kCopy)) return Copy(arguments, match[1]);
  static const std::regex kElementwise(
      R"(^void at::native::\w*elementwise_kernel<\d+, at::native::(\w+)<(.*?)>)"
      R"(, std::array<char\*, \d)");
  if (!std::regex_search(name, match, kElementwise)) return std::nullopt;
  const Elementwise kernel(arguments);
  if (match[1] == "FillFunctor") return Fill(kernel, match[2]);
  if (match[1] == "CUDAFunctor_add") return Add(kernel, match[2]);
  if (match[1] == "CUDAFunctorOnSelf_add") return AddScalar(kernel, match[2]);
  return std::nullopt;
}

}  // namespace tensorferry::software_gpu
